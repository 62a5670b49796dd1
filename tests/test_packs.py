"""YAML packs: what is read, what is refused, and where every problem is shown."""

from __future__ import annotations

import copy
import os
import time
from datetime import date
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from engine.errors import PackError
from engine.garbage import uncollected
from engine.packs import MAX_FILES, MAX_NODES, Document, Form, Source, Text, parse, read, read_all, text, validate
from engine.packs.scalars import scalar_marks

CASES = Path(__file__).parent / "cases" / "packs"
WRITE = "run WRITE_CASES=1 pytest tests/test_packs.py, then read what changed"


def problems_of(action: Any, *arguments: Any, **options: Any) -> PackError:
    with pytest.raises(PackError) as caught:
        action(*arguments, **options)
    return caught.value


def rendered(error: PackError) -> str:
    return "\n\n".join(problem.render() for problem in error.problems) + "\n"


def expect_golden(path: Path, shown: str) -> None:
    """Compare with the text beside a case, or write it."""
    if os.environ.get("WRITE_CASES"):
        path.write_text(shown, encoding="utf-8", newline="\n")
    assert path.exists(), WRITE
    assert path.read_text(encoding="utf-8") == shown, WRITE


# -- Golden messages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", sorted(CASES.glob("bad/*.yaml")), ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_its_places_and_hints(case: Path) -> None:
    """Every file that is not a pack says where and why, exactly as its golden text."""
    expect_golden(case.with_suffix(".txt"), rendered(problems_of(read, case, root=CASES / "bad")))


class Waiter(BaseModel):
    model_config = ConfigDict(extra="forbid")
    by: Literal["waiter"]
    shift: Literal["day", "night"]


class Robot(BaseModel):
    model_config = ConfigDict(extra="forbid")
    by: Literal["robot"]
    model: str


class Dish(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: Text
    price: Decimal = Field(ge=0, description="the price of one portion")
    course: Literal["starter", "main", "dessert"] = "main"
    spicy: bool = False

    @field_validator("title")
    @classmethod
    def no_secrets(cls, title: str) -> str:
        if title == "secret":
            raise ValueError("this dish is not on the menu")
        return title


class Menu(BaseModel):
    """A model with one of each kind of field that packs use."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Text = Field(min_length=1, max_length=20)
    kinds: list[Text] = Field(default=[], alias="for")
    open: bool = True
    seats: int = Field(default=10, ge=1)
    tax: Decimal = Field(default=Decimal(0), le=1)
    since: date | None = None
    size: Literal["small", "medium", "large"] = "medium"
    code: Annotated[Text, Form("[a-z]+", "write lower-case letters")] = text("a")
    tags: tuple[Text, ...] = Field(default=(), max_length=3)
    price: Text | Decimal | None = None
    served: Waiter | Robot | None = None
    basis: dict[str, list[Text]] = {}
    let: dict[Annotated[str, StringConstraints(pattern="^[a-z0-9]+$")], Text] = {}
    notes: dict[str, Any] = {}
    dishes: list[Dish]


@pytest.mark.parametrize("case", sorted(CASES.glob("shape/*.yaml")), ids=lambda path: path.stem)
def test_a_file_of_the_wrong_shape_is_refused_in_plain_words(case: Path) -> None:
    """What pydantic dislikes is said at its place, without pydantic's jargon, as in the golden text."""
    document = read(case, root=CASES / "shape")
    shown = rendered(problems_of(validate, document, Menu))
    expect_golden(case.with_suffix(".txt"), shown)
    assert "pydantic" not in shown
    assert "Input should" not in shown


def test_every_golden_text_has_its_case() -> None:
    """No expectation is left behind by a case that was renamed."""
    assert [path for path in CASES.rglob("*.txt") if not path.with_suffix(".yaml").exists()] == []


# -- Values ----------------------------------------------------------------------------------------------------

VALUES: tuple[tuple[str, Any], ...] = (
    ("", None),
    ("~", None),
    ("null", None),
    ("none", "none"),
    ("true", True),
    ("False", False),
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("NO", "NO"),
    ("5", 5),
    ("-5", -5),
    ("+5", 5),
    ("0", 0),
    ("012", "012"),
    ("00", "00"),
    ("0o17", 15),
    ("0x1F", 31),
    ("0b1", "0b1"),
    ("1_000", "1_000"),
    ("1,000", "1,000"),
    ("2.50", Decimal("2.50")),
    (".5", Decimal("0.5")),
    ("-1.", Decimal(-1)),
    ("1e3", Decimal("1e3")),
    ("00.5", "00.5"),
    ("190:20:30", "190:20:30"),
    ("5.00 CNY", "5.00 CNY"),
    ("10m", "10m"),
    ("25%", "25%"),
    ("400/h", "400/h"),
    ("2027-05-31", "2027-05-31"),
    ("2026-11-20T08:30:00+08:00", "2026-11-20T08:30:00+08:00"),
    ("12345678901234567890", 12345678901234567890),
    ("'5'", "5"),
    ('"true"', "true"),
    ("=", "="),
    ("<", "<"),
    ("a#b", "a#b"),
    ("a # b", "a"),
    ("http://example.com/a:b", "http://example.com/a:b"),
    ("10.0.0.0/8", "10.0.0.0/8"),
    ("::1", "::1"),
    ("2001:db8::/32", "2001:db8::/32"),
)


@pytest.mark.parametrize(("written", "value"), VALUES, ids=[written or "(empty)" for written, _ in VALUES])
def test_a_plain_value_means_what_the_core_schema_says(written: str, value: Any) -> None:
    """Numbers are int or Decimal; everything that could surprise stays text."""
    found = parse(f"a: {written}\n").data["a"]

    assert found == value
    assert isinstance(found, type(value))


def test_no_number_is_a_binary_float() -> None:
    """0.1 + 0.2 is 0.3."""
    a, b = parse("[0.1, 0.2]").data

    assert a + b == Decimal("0.3")


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    """Files saved by some editors begin with one; columns do not count it."""
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfpack: x\n")
    document = read(tmp_path / "a.yaml", root=tmp_path)

    assert document.data == {"pack": "x"}
    assert document.problem(("pack",), "here", key=True).column == 1


def test_json_is_yaml() -> None:
    """A pack written by a program as JSON is read."""
    assert parse('{"a": [1, {"b": null}], "c": "\\u4e2d"}').data == {"a": [1, {"b": None}], "c": "中"}


def test_more_values_than_the_limit_are_refused_quickly() -> None:
    """The count stops the reading, not the memory."""
    error = problems_of(parse, "[" + "a," * (MAX_NODES + 1) + "]")

    assert "more than 50,000 values" in str(error)


# -- Places ----------------------------------------------------------------------------------------------------

PLACES = (
    # (file with <> around one word of a value, the value's key)
    ("plain", "k: one <two> three\n"),
    ("after Chinese", "# 说明\nk: 盗刷 <two> x\n"),
    ("plain over lines", "k: one\n  more\n\n  and <two> x\n"),
    ("plain over CRLF lines", "a: 1\r\nk: one\r\n  more\r\n\r\n  and <two> x\r\n"),
    ("single quotes", "k: 'it''s ''<two>'' x'\n"),
    ("single quotes over lines", "k: 'it''s\n\n\n   ''<two>'''\n"),
    ("double quotes", 'k: "tab\\t\\u4e2d\\U0001F600\\x41 <two>"\n'),
    ("double quotes over lines", 'k: "one \\\n    more\\\n\n   x  \n  y\\n<two>"\n'),
    ("literal", "k: |\n  one 一\n\n    more\n  and <two>\n"),
    ("literal CRLF", "k: |\r\n  one 一\r\n\r\n    more\r\n  and <two>\r\n"),
    ("literal with indicator", "k: |2-  # note\n    one\n   <two>\n"),
    ("literal kept", "k: |+\n\n  one <two>\n\n\na: 1\n"),
    ("folded", "k: >\n  one\n  two\n\n  three\n    more\n  and <two>\n"),
    ("folded CRLF", "k: >-\r\n  one\r\n  two\r\n\r\n  three 三\r\n    more\r\n  and <two>\r\n"),
    ("in a flow mapping", "{a: 1, k: one <two>, b: 2}\n"),
    ("in a flow list", "k: one <two>\nx: [a, 'b']\n"),
    ("lone CR", "a: 1\rk: one <two>\r"),
)


@pytest.mark.parametrize(("name", "marked"), PLACES, ids=[name for name, _ in PLACES])
def test_an_offset_in_a_string_leads_back_to_its_place(name: str, marked: str) -> None:
    """The problem's line and column are those of the marked word in the file."""
    before, rest = marked.split("<")
    content = before + rest.replace(">", "", 1)
    if "k: >" in marked:  # the style sign is no mark
        before, _, rest = marked.partition("<")
        content = before + rest.replace(">", "", 1)
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    value = parse(content, "f.yaml").data["k"]
    problem = value.problem(value.rindex("two"), "here", width=3)

    assert (problem.file, problem.line, problem.column) == ("f.yaml", len(lines), len(lines[-1]) + 1)
    assert problem.source[problem.column - 1 :][: problem.width] == "two"


def test_the_place_after_the_end_is_the_end_of_the_text() -> None:
    """'Unexpected end' points behind the last character, inside the quotes."""
    data = parse("a: tries >\nb: 'tries >'\nc: |\n  tries >\nd: ''\n").data
    ends = {
        key: (value.problem(len(value), "x").line, value.problem(len(value), "x").column) for key, value in data.items()
    }

    assert ends == {"a": (1, 11), "b": (2, 12), "c": (4, 10), "d": (5, 5)}


def test_an_escape_is_marked_where_it_begins() -> None:
    """The caret stands under the backslash."""
    problem = parse('k: "a\\u4e2db"').data["k"].problem(1, "here")

    assert problem.render().splitlines()[1:] == ['    k: "a\\u4e2db"', "         ^"]


def test_the_caret_stands_under_a_character_after_wide_ones() -> None:
    """A Chinese character takes two cells of a terminal."""
    problem = parse("k: 盗刷 x").data["k"].problem(3, "here")

    assert problem.render().splitlines()[1:] == ["    k: 盗刷 x", "            ^"]


def test_text_from_no_file_has_places_too() -> None:
    """Conditions that come over the API or from a test say '<text>'."""
    problem = text("one\ntwo three").problem(8, "here")

    assert str(problem) == "<text>:2:5: here"


def test_problems_name_keys_values_and_what_is_around() -> None:
    """A loc that is not there falls back to the nearest value around it."""
    document = parse("a:\n  b: [1, {c: 2}]\n")
    places = {
        (loc, key): (problem.line, problem.column, problem.width)
        for loc, key in (
            ((), False),
            (("a",), True),
            (("a", "b"), False),
            (("a", "b", 1, "c"), False),
            (("a", "x"), False),
        )
        for problem in [document.problem(loc, "here", key=key)]
    }

    assert list(places.values()) == [(1, 1, 1), (1, 1, 1), (2, 6, 11), (2, 14, 1), (2, 3, 1)]


def test_raw_gives_what_was_written() -> None:
    """Lists need the digits, not the number: +5 is not 5 there."""
    document = parse("a: [+5, '6', 0x1F]")

    assert [document.raw(("a", index)) for index in range(3)] == ["+5", "'6'", "0x1F"]
    with pytest.raises(KeyError):
        document.raw(("a", 7))


def test_hostile_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """A file cannot colour or overwrite the screen through its own error message."""
    (tmp_path / "a.yaml").write_bytes(b"a: \x1b[2Jx\x7f\r\xe2\x80\xae\n")
    shown = rendered(problems_of(read, tmp_path / "a.yaml", root=tmp_path))

    assert not set(shown) & {"\x1b", "\x7f", "\r", "\u202e"}


def test_columns_survive_a_very_long_line() -> None:
    """A megabyte on one line is not printed."""
    problem = parse("a: " + "x" * 5000).data["a"].problem(4000, "here")

    assert (problem.column, problem.source) == (4004, "")


# -- Text and pydantic -----------------------------------------------------------------------------------------


def test_text_fields_keep_their_place_through_pydantic() -> None:
    """In fields, lists, mappings, unions and with constraints, in lax and strict mode."""
    source = "name: a\nfor: [b]\ncode: c\ntags: [d]\nprice: e\nbasis: {x: [f]}\ndishes: [{title: g, price: 1.50}]\n"
    menu = validate(parse(source), Menu)
    texts = [menu.name, menu.kinds[0], menu.code, menu.tags[0], menu.price, menu.basis["x"][0], menu.dishes[0].title]

    assert [type(found) for found in texts] == [Text] * 7
    assert [found.problem(0, "x").line for found in texts if isinstance(found, Text)] == [1, 2, 3, 4, 5, 6, 7]
    assert menu.dishes[0].price == Decimal("1.50")
    assert type(Dish.model_validate({"title": menu.name, "price": 1}, strict=False).title) is Text


def test_a_plain_string_becomes_text_without_a_file() -> None:
    """Models can be built from Python too."""
    dish = Dish.model_validate({"title": "x", "price": 1})

    assert str(dish.title.problem(0, "here")) == "<text>:1:1: here"


def test_text_is_a_plain_string_to_everyone_else() -> None:
    """Equal, hashable, and its JSON schema is a string's."""
    found = parse("a: x").data["a"]

    assert found == "x"
    assert {found: 1}["x"] == 1
    assert Dish.model_json_schema()["properties"]["title"] == {"title": "Title", "type": "string"}
    assert Menu.model_json_schema()["properties"]["code"]["pattern"] == "^(?:[a-z]+)$"
    assert copy.deepcopy(found) == "x"


def test_format_is_optional_and_one() -> None:
    """A model need not know about `format`."""
    assert validate(parse("format: 1\nname: x\ndishes: []"), Menu).name == "x"


def test_yes_is_no_boolean_but_text() -> None:
    """YAML 1.1 habits are named at their place."""
    error = problems_of(validate, parse("name: x\nopen: maybe\ndishes: []"), Menu)

    assert [problem.hint for problem in error.problems] == ["write true or false"]


# -- Folders ---------------------------------------------------------------------------------------------------


def fill(root: Path, **files: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".yaml").write_text(content, encoding="utf-8")
    return root


def test_all_files_are_read_in_order_with_names_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names begin with the folder, whether it was given as relative, absolute or dot."""
    root = fill(tmp_path / "rules", b__z="a: 1", a="a: 2", b__c__d="a: 3")
    (root / "c.YML").write_text("a: 4")
    (root / "notes.txt").write_text("not: yaml: at all")
    monkeypatch.chdir(tmp_path)
    names = ["rules/a.yaml", "rules/b/c/d.yaml", "rules/b/z.yaml", "rules/c.YML"]

    assert [document.file for document in read_all(root)] == names
    assert [document.file for document in read_all(Path("rules"))] == names
    assert [document.file for document in read_all(Path("rules/b/c/d.yaml"))] == ["c/d.yaml"]
    monkeypatch.chdir(root)
    assert [document.file for document in read_all(Path())] == ["a.yaml", "b/c/d.yaml", "b/z.yaml", "c.YML"]


def test_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    """A syntax error in one file hides nothing in another."""
    root = fill(tmp_path / "rules", a="a: [", b="a: 1\na: 2", c="ok: 1", d="")
    error = problems_of(read_all, root)

    assert [(problem.file, problem.line) for problem in error.problems] == [
        ("rules/a.yaml", 1),
        ("rules/b.yaml", 2),
        ("rules/d.yaml", 1),
    ]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    """Editors and version control leave such things."""
    root = fill(tmp_path / "rules", a="a: 1")
    (root / ".a.yaml").write_text("[")
    (root / ".git").mkdir()
    (root / ".git" / "x.yaml").write_text("[")

    assert len(read_all(root)) == 1


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    """Neither a linked file nor a linked folder may bring in what lies elsewhere."""
    elsewhere = fill(tmp_path / "elsewhere", secret="key: abc")
    root = fill(tmp_path / "rules", a="a: 1")
    (root / "link.yaml").symlink_to(elsewhere / "secret.yaml")
    (root / "folder").symlink_to(elsewhere)
    error = problems_of(read_all, root)

    assert [str(problem) for problem in error.problems] == [
        "rules/folder:1:1: the linked folder lies outside the pack folder",
        "rules/link.yaml:1:1: the link leads out of the pack folder",
    ]


def test_links_inside_the_folder_work_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    """A ConfigMap shows its files through a hidden, dated folder."""
    root = tmp_path / "rules"
    fill(root, **{"..2026_11_20__payments__a": "a: 1"})
    (root / "..data").symlink_to("..2026_11_20")
    (root / "payments").symlink_to("..data/payments")

    assert [document.file for document in read_all(root)] == ["rules/payments/a.yaml"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    """A folder that contains itself is read once and named."""
    root = fill(tmp_path / "rules", a__b="a: 1")
    (root / "a" / "again").symlink_to(root)

    assert "already read under another name" in str(problems_of(read_all, root))


def test_what_is_not_a_file_is_not_opened(tmp_path: Path) -> None:
    """A pipe would block for ever; a broken link and a folder that is not there say so."""
    root = fill(tmp_path / "rules")
    os.mkfifo(root / "pipe.yaml")
    (root / "broken.yaml").symlink_to(root / "nothing")
    error = problems_of(read_all, root)

    assert [problem.what for problem in error.problems] == [
        "the file cannot be read: No such file or directory",
        "this is not a regular file",
    ]
    assert "there is no such folder" in str(problems_of(read_all, tmp_path / "none"))


def test_limits_on_size_and_number_of_files(tmp_path: Path) -> None:
    """A megabyte for a file, two thousand files."""
    root = fill(tmp_path / "rules", big="#" * ((1 << 20) + 1))

    assert "larger than 1,048,576 bytes" in str(problems_of(read_all, root))

    for number in range(MAX_FILES):
        (root / f"{number}.yaml").touch()
    assert "more than 2,000 YAML files" in str(problems_of(read_all, root))


def test_what_somebody_holds_is_not_parsed_again(tmp_path: Path) -> None:
    """A reload costs what has changed. The same file elsewhere shares the data and knows where it lies."""
    here = fill(tmp_path / "here/rules", a="a: [1]", b="b: 1")
    there = fill(tmp_path / "there/rules", a="a: [1]", b="b: 2")
    held = read_all(here)

    assert [again is document for again, document in zip(read_all(here), held, strict=True)] == [True, True]
    same, other = read_all(there)
    assert (same.data is held[0].data, same.path, same.root) == (True, there / "a.yaml", there)
    assert other.data == {"b": 2}

    (here / "a.yaml").write_text("a: [2]")
    assert [document.data for document in read_all(here)] == [{"a": [2]}, {"b": 1}]


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    """sha256sum gives the same."""
    root = fill(tmp_path / "rules", a="a: 1\n")

    assert read_all(root)[0].hash == sha256(b"a: 1\n").hexdigest()


# -- Fuzz ------------------------------------------------------------------------------------------------------

SEED = """\
pack: payments/card-testing
about: >
  Thieves try stolen card numbers
  with small authorisations 小额.

  Then they spend.
for: [payment, "transaction"]
let: {tries: 'count(last 10m by card.ref)', x: "a\\tb\\u4e2d"}
rules:
  - id: card-testing.burst
    when: |
      tries >= 5 and
        amount <= 20 CNY
    points: 45
    because:
      zh: "10 分钟内 {tries} 次
        不超过 20 元"
"""
PIECES = [
    "\n",
    "\r\n",
    "\r",
    " ",
    "  ",
    "\t",
    ":",
    ": ",
    "- ",
    "? ",
    "'",
    '"',
    "\\",
    "\\x41",
    "#",
    " #",
    "|",
    ">",
    ">-",
]
PIECES += [
    "|2+",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "!t ",
    "%",
    "@",
    "---\n",
    "...\n",
    "中",
    "😀",
    "a",
    "b: c",
    "0",
    "\0",
]
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))

yaml_like = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The seed with a few cuts and insertions."""
    content = SEED
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 6)))
        content = content[:start] + draw(st.sampled_from(PIECES)) + content[end:]
    return content


def check_any(body: bytes, folder: Path) -> None:
    """Reading gives a document whose strings lead back to the file, or a PackError that renders; quickly."""
    path = folder / "x.yaml"
    path.write_bytes(body)
    with uncollected():  # A collection in a large process takes a second by itself.
        start = time.process_time()
        try:
            document = read(path, root=folder)
        except PackError as error:
            check_problems(error)
        else:
            check_places(document.data, document)
        assert time.process_time() - start < 1


def check_problems(error: PackError) -> None:
    """A refusal has at least one problem, each with a place, and can be shown."""
    assert error.problems
    assert all(problem.render() for problem in error.problems)
    assert all(problem.line > 0 and problem.column > 0 for problem in error.problems)


def check_places(value: Any, document: Document) -> None:
    """Every character of every string stands in the file, or is an escape or a fold there, in order."""
    if isinstance(value, dict):
        for key, item in value.items():
            check_places(key, document)
            check_places(item, document)
    elif isinstance(value, list):
        for item in value:
            check_places(item, document)
    elif isinstance(value, Text):
        places = value.places()
        content = document.source.content
        assert places == sorted(places)
        assert all(
            content[place] == character or content[place] in "\\ \t\r\n"
            for place, character in zip(places, value, strict=False)
        )
        value.problem(len(value), "end").render()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@QUICK
@given(body=st.binary(max_size=300))
@example(body=b"\xef\xbb\xbf")
@example(body=b"a: \xff")
def test_random_bytes_are_read_or_refused(folder: Path, body: bytes) -> None:
    """No bytes crash or stall the reader."""
    check_any(body, folder)


@QUICK
@given(content=mutated() | yaml_like)
@example(content='a: "\\UFFFFFFFF"')
@example(content="%YAML 1." + "9" * 5000 + "\n---\na")
@example(content="a: 0x" + "f" * 100)
@example(content="a: |9\n" + " " * 500 + "x\n")
def test_damaged_yaml_is_read_or_refused(folder: Path, content: str) -> None:
    """No edit of a pack crashes or stalls the reader, or loses a place."""
    check_any(content.encode("utf-8", "surrogatepass"), folder)


@pytest.mark.slow
@THOROUGH
@given(body=st.binary(max_size=2000) | (mutated() | yaml_like).map(lambda s: s.encode("utf-8", "surrogatepass")))
def test_many_damaged_files_are_read_or_refused(folder: Path, body: bytes) -> None:
    """The same, 20,000 times."""
    check_any(body, folder)


SCALARS = st.lists(
    st.sampled_from(
        ["a", "b", "中", " ", "  ", "\n", "\r\n", "\n ", "\n   ", "\n\n", "''", "\\n", "\\\n", "\t", "#", "-"]
    )
)


@QUICK
@given(
    body=SCALARS.map("".join),
    style=st.sampled_from(["k: {}", "k: '{}'", 'k: "{}"', "k: |\n {}", "k: >\n  {}", "k: |1+\n{}"]),
)
def test_scalars_of_every_style_lead_back_to_the_file(body: str, style: str) -> None:
    """The second reading of a scalar agrees with the parser's on every character."""
    try:
        document = parse(style.replace("{}", body))
    except PackError:
        return
    check_places(document.data, document)


def test_a_scalar_is_read_again_only_when_asked() -> None:
    """Loading does not pay for places; `scalar_marks` is pure and can be called on its own."""
    assert scalar_marks("'it''s'", "'", "it's") == [(1, "i"), (2, "t"), (3, "'"), (5, "s")]
    assert Source("f", "a\r\nb\rc\nd").starts == [0, 3, 5, 7]


HOSTILE = {
    "brackets": "[" * 500_000,
    "braces": "{a: " * 250_000,
    "dashes": "- " * 500_000,
    "one word": "a: " + "x" * 1_000_000,
    "words": "a: " + "x " * 500_000,
    "items": "[" + "a," * 500_000 + "]",
    "lines": "a: |\n" + " a\n" * 330_000,
    "blank lines": "a: b\n" + "\n" * 1_000_000 + "  c",
    "escapes": 'a: "' + "\\n" * 500_000 + '"',
    "backslashes": 'a: "' + "\\" * 1_000_000 + '"',
    "spaces": 'a: "' + " " * 1_000_000 + '"',
    "anchors": "- &a x\n" * 140_000,
    "comments": "#\n" * 500_000,
    "documents": "---\n" * 250_000,
    "digits": "a: " + "1" * 1_000_000,
    "indentation": "".join(" " * depth + "a:\n" for depth in range(1400)),
    "indicator": "a: |9\n" + " " * 1_000_000 + "x",
    "nul": "\0" * 1_000_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_megabyte_takes_seconds_not_minutes(name: str) -> None:
    """The parser stays linear in what it is given, and so do the places."""
    start = time.process_time()
    try:
        document = parse(HOSTILE[name][: 1 << 20])
    except PackError as error:
        rendered(error)
    else:
        document.data["a"].problem(len(document.data["a"]), "end").render()
    assert time.process_time() - start < 10
