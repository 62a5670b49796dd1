"""The one layout: what it makes of a file, and that it never changes what the file says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import main
from cli.schemas import KINDS
from engine.errors import PackError
from engine.packs import parse, read
from engine.packs.layout import laid_out
from engine.packs.tree import comments
from engine.rulebook import load
from engine.rules import RulePack

ROOT = Path(__file__).parent.parent
FILES = sorted(
    file for folder in ("rules", "policies", "docs/examples") for file in ROOT.joinpath(folder).glob("**/*.yaml")
)
X, Y = "x" * 60, "y" * 60


def laid(content: str) -> str:
    return laid_out(parse(content), RulePack)


EXAMPLES = [
    ("two spaces a level", "a:\n    b:\n         c: 1\n", "a:\n  b:\n    c: 1\n"),
    ("lists are indented below their key", "a:\n- 1\n- 2\n", "a:\n  - 1\n  - 2\n"),
    ("a list in a list", "a:\n-   - 1\n    - 2\n-\n  - 3\n", "a:\n  - - 1\n    - 2\n  - - 3\n"),
    ("spaces within brackets", "a: {b :  1,c: [ 2,3 ], }\n", "a: {b: 1, c: [2, 3]}\n"),
    ("brackets over lines come onto one", "a: [1,\n    2]\n", "a: [1, 2]\n"),
    ("or become a block where that would be long", f"a: [{X},\n {Y}]\n", f"a:\n  - {X}\n  - {Y}\n"),
    ("a long line of brackets stays one", f"a: [{X}{Y}, 1]\n", f"a: [{X}{Y}, 1]\n"),
    ("long brackets below their key stay there", f"a:\n    [{X}{Y}, 1]\n", f"a:\n  [{X}{Y}, 1]\n"),
    ("short ones come behind it", "a:\n    [1, 2]\n", "a: [1, 2]\n"),
    ("single quotes become double ones", "a: 'it''s'\n'b': 'x # y'\n", 'a: "it\'s"\n"b": "x # y"\n'),
    ("but not where that would change the text", "a: 'a\\d \"b\"'\n", "a: 'a\\d \"b\"'\n"),
    ("one empty line at most", "\n\na: 1\n\n\n\nb:\n\n  c: 2\n\n\n", "a: 1\n\nb:\n  c: 2\n"),
    ("no spaces at the end, no Windows", "a: 1  \r\nb: 2\r\n", "a: 1\nb: 2\n"),
    ("no marks of documents", "---\na: 1\n...\n", "a: 1\n"),
    ("nothing stays nothing", "a:\nb: ~\nc: []\nd: {}\n", "a:\nb: ~\nc: []\nd: {}\n"),
    (
        "a long text keeps its lines",
        "a: >-\n      one\n      two\n\n        three\nb: four\n      five\n",
        "a: >-\n  one\n  two\n\n    three\nb: four\n  five\n",
    ),
    ("empty lines of a text are its own", "a: |\n   x\n\n\n   y\n\n\nb: 1\n", "a: |\n  x\n\n\n  y\n\nb: 1\n"),
    ("a text with an indent of its own", "a: |4\n      x\n     y\n", "a: |2\n    x\n   y\n"),
    ("comments behind neighbours in one column", "a: 1 # x\nbcd: 2       # y\n", "a: 1    # x\nbcd: 2  # y\n"),
    ("as wide as Chinese is", "a: 中文 # x\nbcd: 2 # y\n", "a: 中文  # x\nbcd: 2   # y\n"),
    ("not behind others", "a: 1 # x\nb:\n  c: 22222 # y\n", "a: 1  # x\nb:\n  c: 22222  # y\n"),
    ("a comment goes with what follows", "# one\na:\n# two\n    b: 1\n", "# one\na:\n  # two\n  b: 1\n"),
    (
        "a comment indented like a block ends it",
        "a:\n    b: 1\n    # of a\n# of c\nc: 2\n# end\n",
        "a:\n  b: 1\n  # of a\n# of c\nc: 2\n# end\n",
    ),
    ("the end of the file is no list's", "a:\n- 1\n# end\n", "a:\n  - 1\n# end\n"),
    ("above an item of a list", "a:\n- # one\n  b: 1\n# two\n- c: 2\n", "a:\n  # one\n  - b: 1\n  # two\n  - c: 2\n"),
    ("brackets with comments become a block", "a: [1, # one\n 2]\n", "a:\n  - 1  # one\n  - 2\n"),
    ("and those around them", "a: {b: [1 # one\n ]}\n", "a:\n  b:\n    - 1  # one\n"),
    ("a comment behind a key", "a: # one\n  b: 1\n", "a:  # one\n  b: 1\n"),
    ("a comment at the head of a text", "a: > # one\n  b\n", "a: >  # one\n  b\n"),
    ("a # that is text", "a: x#y\nb: '#z'\n", 'a: x#y\nb: "#z"\n'),
]


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in EXAMPLES], ids=[row[0] for row in EXAMPLES])
def test_what_becomes_of(before: str, after: str) -> None:
    assert laid(before) == after
    assert laid(after) == after


def test_keys_of_blocks_stand_in_the_order_of_the_reference_with_their_comments() -> None:
    before = """\
# the file
owner: o  # who
pack: p
let: {z: 1, b: 2}
rules:
  - when: x
    # the name
    id: a.b
    tests:
      - {expect: fires, it: x}
"""
    after = """\
# the file
pack: p
owner: o  # who
let: {z: 1, b: 2}
rules:
  # the name
  - id: a.b
    when: x
    tests:
      - {expect: fires, it: x}
"""
    assert laid(before) == after
    assert laid(after) == after


def test_names_that_people_chose_keep_their_order_for_it_has_a_meaning() -> None:
    content = "pack: p\nlet:\n  z: 1\n  a: z + 1\n"
    assert laid(content) == content


def test_a_file_that_cannot_be_laid_out_is_refused_and_said_so() -> None:
    with pytest.raises(PackError, match="cannot be laid out"):
        laid("? a\n  b\n: 1\n")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_shipped_file_is_in_the_one_layout(file: Path) -> None:
    document = read(file, root=ROOT)
    kind = next(name for name in ("map", *KINDS) if name in document.data)
    assert laid_out(document, KINDS[kind]).encode() == document.body


# Any file

WORDS = st.sampled_from(
    ["a", "b b", "x#y", "中文", "amount > 5 CNY", "12", "true", "it's", "", "a: b", "# x", 'say "x"']
)
TEXTS = st.one_of(
    WORDS, st.sampled_from(["one\ntwo\n", "one\n\n  two\nthree"]), st.text("ab '\"#:,[]{}\\\n中-", max_size=12)
)
DATA = st.recursive(
    st.one_of(st.integers(-9, 99), st.booleans(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abcdefg"), inner, max_size=4)
    ),
    max_leaves=14,
)


class Writer:
    """Writes data as YAML the way somebody careless might: any style, any indent, comments anywhere."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.count = 0

    def chance(self, of: int) -> bool:
        return bool(self.draw(st.integers(1, of)) == 1)

    def comment(self) -> str:
        self.count += 1
        return f"# {self.count} {self.draw(st.sampled_from(['a', '{b}', 'c: d', '中 # x']))}"

    def beside(self) -> str:
        return " " * self.draw(st.integers(1, 4)) + self.comment() if self.chance(4) else ""

    def between(self, indent: int) -> list[str]:
        lines = [""] * self.draw(st.integers(0, 2)) if self.chance(4) else []
        if self.chance(4):
            lines.append(" " * (indent + self.draw(st.integers(0, 3))) + self.comment())
        return lines

    def scalar(self, value: Any, indent: int, *, flow: bool) -> str:
        if not isinstance(value, str):
            return json.dumps(value)
        if re.fullmatch(r"[a-z](?:[a-z ]*[a-z])?|中文", value) and value != "true":
            return value
        if not flow and re.fullmatch(r"(?:[a-z][a-z ]*\n)+", value):
            step = " " * (indent + self.draw(st.integers(1, 3)))
            head = "|" + (" " + self.comment() if self.chance(3) else "")
            return head + "".join(f"\n{step}{line}" for line in value.splitlines())
        if "\n" not in value and self.chance(2):
            return "'" + value.replace("'", "''") + "'"
        return json.dumps(value, ensure_ascii=False)

    def gap(self, indent: int) -> str:
        if self.chance(4):
            return self.beside() + "\n" + " " * (indent + 1)
        return str(self.draw(st.sampled_from(["", " ", "  "])))

    def flow(self, value: Any, indent: int) -> str:
        if isinstance(value, dict):
            rows = [f"{key}: {self.flow(each, indent)}" for key, each in value.items()]
        elif isinstance(value, list):
            rows = [self.flow(each, indent) for each in value]
        else:
            return self.scalar(value, indent, flow=True)
        marks = "{}" if isinstance(value, dict) else "[]"
        inside = "".join(
            row + ("," if number < len(rows) else "") + self.gap(indent) for number, row in enumerate(rows, 1)
        )
        return marks[0] + self.gap(indent) + inside + marks[1]

    def block(self, value: Any, indent: int) -> list[str]:
        lines: list[str] = []
        for key, each in value.items() if isinstance(value, dict) else [("", each) for each in value]:
            lines += self.between(indent)
            lead = " " * indent + (f"{key}:" if key else "-")
            if not isinstance(each, dict | list):
                written = self.scalar(each, indent, flow=False)
                lines.append(f"{lead} {written}" + ("" if written.startswith("|") else self.beside()))
            elif not each or self.chance(3):
                lines.append(f"{lead} {self.flow(each, indent + 1)}" + self.beside())
            else:
                loose = 0 if key and isinstance(each, list) and self.chance(2) else self.draw(st.integers(1, 4))
                lines += [lead + self.beside(), *self.block(each, indent + loose)]
        return lines


@st.composite
def careless(draw: Any) -> str:
    writer = Writer(draw)
    data = draw(st.dictionaries(st.sampled_from("abcdefg"), DATA, min_size=1, max_size=4))
    return "\n".join([*writer.block(data, 0), *writer.between(0)]) + "\n"


@settings(max_examples=120, deadline=None)
@given(careless())
def test_any_file_says_the_same_afterwards_with_every_comment_and_is_left_alone_then(content: str) -> None:
    before = parse(content)
    after = laid_out(before, RulePack)
    assert parse(after).data == before.data
    assert sorted(comments(after)) == sorted(comments(content))
    assert laid_out(parse(after), RulePack) == after


def loosened(content: str) -> str:
    """With twice the indent."""
    return re.sub(r"^( *)(- )?", lambda found: found[1] * 2 + ("-   " if found[2] else ""), content, flags=re.MULTILINE)


@pytest.mark.slow
def test_a_rulebook_in_another_layout_asks_the_same_questions(tmp_path: Path) -> None:
    for folder in ("rules", "policies"):
        for file in (ROOT / folder).rglob("*.*"):
            place = tmp_path / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(loosened(file.read_text()) if file.suffix == ".yaml" else file.read_text())
    crooked = load(tmp_path / "rules", tmp_path / "policies")
    found = CliRunner().invoke(main, ["fmt", str(tmp_path / "rules"), str(tmp_path / "policies")])
    assert found.exit_code == 0, found.output
    straight, shipped = load(tmp_path / "rules", tmp_path / "policies"), load(ROOT / "rules", ROOT / "policies")
    assert {name: book.questions for name, book in crooked.kinds.items()} == {
        name: book.questions for name, book in straight.kinds.items()
    }
    assert [rule.finding for rule in crooked.rules] == [rule.finding for rule in straight.rules]
    assert straight.hash == shipped.hash


# The command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text("list: vip\nabout: x\nmatch: exact\nentries: [a]\n")
    (tmp_path / "crooked.yaml").write_text("about: x # why\nlist: vop\nmatch: exact\nentries:\n- 'a'\n")
    return tmp_path


def test_fmt_writes_what_is_not_yet_so_and_nothing_else(folder: Path) -> None:
    before = (folder / "good.yaml").stat().st_mtime_ns
    (folder / "crooked.yaml").chmod(0o640)
    found = CliRunner().invoke(main, ["fmt", str(folder)])
    assert (found.exit_code, found.stderr) == (0, "2 files looked at, 1 changed\n")
    written = (folder / "crooked.yaml").read_text()
    assert written == 'list: vop\nabout: x  # why\nmatch: exact\nentries:\n  - "a"\n'
    assert (folder / "crooked.yaml").stat().st_mode & 0o777 == 0o640
    assert (folder / "good.yaml").stat().st_mtime_ns == before
    assert sorted(file.name for file in folder.iterdir()) == ["crooked.yaml", "good.yaml"]


@pytest.mark.parametrize(("option", "code"), [("--check", 1), ("--diff", 0)])
def test_fmt_can_only_say_what_it_would_do(folder: Path, option: str, code: int) -> None:
    before = (folder / "crooked.yaml").read_text()
    found = CliRunner().invoke(main, ["fmt", option, str(folder)])
    assert found.exit_code == code
    assert "crooked.yaml" in found.stdout
    assert "good.yaml" not in found.stdout
    assert ('+  - "a"' in found.stdout) == (option == "--diff")
    assert (folder / "crooked.yaml").read_text() == before


BROKEN = [
    ("not YAML", "list: [a\n", "the bracket that opens here is never closed"),
    ("another shape", "list: x\nabuot: y\nmatch: exact\n", "did you mean 'about'?"),
    ("no kind", "name: x\n", "this is no file of Arbiter"),
]


@pytest.mark.parametrize(("content", "said"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_fmt_leaves_a_file_with_problems_alone_and_shows_them(folder: Path, content: str, said: str) -> None:
    (folder / "broken.yaml").write_text(content)
    found = CliRunner().invoke(main, ["fmt", str(folder)])
    assert found.exit_code == 1
    assert said in found.stdout
    assert found.stderr.endswith("1 changed, 1 file left alone\n")
    assert (folder / "broken.yaml").read_text() == content
