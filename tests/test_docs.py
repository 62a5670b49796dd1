"""What the README and the pages in docs/ show is so: files load, commands exist, requests give what they say."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from api.desk import Limits
from api.problems import TABLE
from bench import _pictures as pictures
from cli import main
from cli.language import SETTING
from cli.remote import KEY_FILE, SERVER
from engine import alarms, compliance
from engine.arbiter import Arbiter, Caller
from engine.assembly import Settings, open_arbiter
from engine.assessments import try_profiles
from engine.errors import SettingsError
from engine.images import Detection
from engine.images.card import DetectorCard
from engine.mapping import read_map
from engine.notes import verifier
from engine.packs import parse, validate
from engine.policy import Policy, PolicyPack
from engine.rulebook import FILE_KINDS, Rulebook
from engine.schema import MAX_BODY
from engine.suites import read_suites, try_suites
from engine.trial import try_rules
from engine.vault import KeyFile
from tests import books, models, test_law
from tests.serving import Served, serve_in_process
from tests.test_profiles import PROFILE
from tests.test_standings import ANCHOR
from tests.told import TOLD

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SHIPPED_LISTS = {
    f"rules/lists/{path.name}": path.read_text("utf-8") for path in sorted((ROOT / "rules/lists").glob("*.yaml"))
}
TESTED_RULES = "rules/payments/card-testing.yaml"


# What stands in the pages


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of code in a page. `info` is what stands behind the fence; an indented piece has none."""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$|((?:^(?: {4}[^\n]*)?\n)+)", text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, found.start()) + 1
        if found[3] is None:
            yield Block(page, line, found[1].strip(), found[2])
        elif found[3].strip():
            yield Block(page, line, "", re.sub("^    ", "", found[3], flags=re.MULTILINE))


BLOCKS = [block for page in PAGES for block in read_blocks(page)]


def fenced(*infos: str, page: str = "") -> list[Block]:
    return [block for block in BLOCKS if block.info in infos and page in ("", block.page.name)]


def every(found: Iterable[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", list(found), ids=str)


def rows(page: str, section: str = "") -> list[list[str]]:
    """The rows of all tables in a page, or in one section of it, as cells."""
    text = (ROOT / page).read_text("utf-8")
    if section:
        text = re.split(r"^## ", text.split(f"\n## {section}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r" \|(?= |$)", line[1:-1])] for line in lines]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# YAML


def kind_of(data: Mapping[str, Any]) -> str:
    return next((kind for kind in ("map", "suite", *FILE_KINDS) if kind in data), "")


LINKS = "rules/links/people.yaml"


def loaded(folder: Path, name: str, text: str) -> Rulebook:
    """A small rulebook that holds this file: with the shipped lists and links, and, for exceptions, a shipped rule."""
    rules = (ROOT / TESTED_RULES).read_text("utf-8")
    links = (ROOT / LINKS).read_text("utf-8")
    return books.book(folder, {**SHIPPED_LISTS, LINKS: links, TESTED_RULES: rules, name: text})


TIERED = {
    "policies/tiered.yaml": "policy: tiered\nfor: [transaction]\nverdicts: [approve, decline]\n"
    "tiers: {trusted: {decline: 9}, standard: {decline: 8}, watched: {decline: 7}}\ndefault_tier: standard\n"
}
"""A policy with the tiers of the profiles that pages show."""


def judge(data: Mapping[str, Any]) -> Policy:
    """A policy whose signals are somebody else's."""
    return Policy(PolicyPack.model_validate(data))


@every(fenced("yaml"))
def test_a_yaml_block_is_a_whole_file_that_loads_and_passes_its_tests(  # noqa: C901 - one case a kind
    block: Block, tmp_path: Path
) -> None:
    data = parse(block.text, str(block)).data
    kind = kind_of(data)
    match kind:
        case "map":
            (tmp_path / "shown.map.yaml").write_text(block.text, "utf-8")
            read_map(tmp_path / "shown.map.yaml", books.shipped().schema)
        case "policy":
            judge(data)
        case "pack":
            # In the place of the shipped file of this name, if there is one.
            found = loaded(tmp_path, f"rules/{data['pack']}.yaml", block.text)
            mine = [rule for rule in found.rules if rule.pack == data["pack"]]
            assert {"fires", "quiet"} <= {test.expect for rule in mine for test in rule.tests}
            assert [trial.problem.render() for trial in try_rules(found, mine) if trial.problem] == []
        case "links":
            loaded(tmp_path, LINKS, block.text)  # In the place of the shipped one: its groups have these names.
        case "suite":
            (tmp_path / "shown_test.yaml").write_text(block.text, "utf-8")
            suites, problems = read_suites(tmp_path)
            assert [problem.render() for problem in problems] == []
            trials = list(try_suites(books.shipped(), suites))
            assert trials
            assert [trial.problem.render() for trial in trials if trial.problem] == []
        case "experiment":
            # With the rule of the same page that it asks about.
            packs = [each.text for each in fenced("yaml", page=block.page.name) if f"id: {data['rule']}" in each.text]
            books.book(tmp_path, {"rules/asked.yaml": packs[0], "policies/experiment.yaml": block.text})
        case "checklist":
            (tmp_path / "policies").mkdir()
            shutil.copytree(ROOT / "rules", tmp_path / "rules")
            shutil.copytree(ROOT / "policies", tmp_path / "policies", dirs_exist_ok=True)
            books.book(tmp_path, {"policies/compliance/shown.yaml": block.text})
        case "playbook":
            books.book(tmp_path, {**books.SMALL, "policies/playbook.yaml": block.text})
        case "notices":
            # In the place of the shipped ones.
            packs = [path for part in ("rules", "policies") for path in ROOT.glob(f"{part}/**/*.yaml")]
            kept = {path: path.read_text("utf-8") for path in packs if path.parent.name != "notices"}
            files = {str(path.relative_to(ROOT)): text for path, text in kept.items()}
            books.book(tmp_path, {**files, "policies/notices.yaml": block.text})
        case "law":
            books.book(tmp_path, {**books.SMALL, "policies/law.yaml": block.text})
        case "profile":
            found = books.book(tmp_path, {**books.SMALL, **TIERED, "policies/profile.yaml": block.text})
            trials = [trial for trial, _ in try_profiles(found)]
            assert trials
            assert [trial.problem.render() for trial in trials if trial.problem] == []
        case "list" | "exceptions" | "rates" | "fields" | "anomaly" | "retention" | "targets" | "alerts" | "processing":
            loaded(tmp_path, f"policies/{kind}.yaml", block.text)
        case _:
            pytest.fail("a part of a file is marked: ```yaml fragment")


@every(fenced("yaml fragment"))
def test_a_marked_fragment_is_a_part_of_a_whole_file(block: Block, tmp_path: Path) -> None:
    """A detector's card is whole; `tests` belong to the page's rule, the rest to its policy, or that for orders."""
    data = parse(block.text, str(block)).data
    if "detector" in data:
        validate(parse(block.text, str(block)), DetectorCard)
        return
    whole = [parse(each.text, str(each)).data for each in fenced("yaml", page=block.page.name)]
    if "tests" in data:
        pack = next(each for each in whole if "pack" in each)
        pack["rules"][0]["tests"] = data["tests"]
        found = loaded(tmp_path, f"rules/{pack['pack']}.yaml", json.dumps(pack, default=str))
        mine = [rule for rule in found.rules if rule.pack == pack["pack"]]
        assert [trial.problem.render() for trial in try_rules(found, mine) if trial.problem] == []
        return
    shipped = parse((ROOT / "policies/checkout.yaml").read_text("utf-8"), "checkout.yaml").data
    judge({**next((each for each in whole if "policy" in each), shipped), **data})


@every(fenced("json"))
def test_a_json_block_is_json(block: Block) -> None:
    json.loads(block.text)


# Commands

_COMMAND = re.compile(
    r"(?:^(?:\$ )?|\| |&& |\$\()(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?arbiter (?=\S)"
    r"""((?:"[^"\n]*"|'[^'\n]*'|[^\n|;&)#>])*)""",
    re.MULTILINE,
)


def commands() -> Iterator[tuple[str, str, bool]]:
    """(where, what is typed behind `arbiter`, whether it is a whole line) of every command shown."""
    for block in BLOCKS:
        if block.info in ("", "sh", "text"):
            # In what a command prints, only a prompt or an indent makes a line a command.
            own = r"^(?! {4}|\$ ).*$" if block.info == "text" else "$^"
            text = re.sub(r"^ +", "", re.sub(own, "", block.text, flags=re.MULTILINE), flags=re.MULTILINE)
            text = re.sub(r"\\\n", "", text)
            for found in _COMMAND.finditer(text):
                # In a help text an explanation may follow, behind blanks.
                yield str(block), re.split(r" {2,}", found[1].strip())[0], True
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for found in re.finditer(r"`(?:\.venv/bin/)?arbiter ([^`]+)`", prose):
            yield page.name, found[1], False


@pytest.mark.parametrize(("where", "typed", "whole"), sorted(set(commands())))
def test_a_command_shown_exists_with_its_options(where: str, typed: str, whole: bool) -> None:
    words = shlex.split(typed)
    context, command = click.Context(main), main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{where}: there is no command 'arbiter {typed}'"
        command, words = found, words[1:]  # type: ignore[assignment]  # a group ends the loop
    asks_help = bool({"--help", "-h", "--version"} & set(words))
    given, arguments = options_of(command, [word for word in words if word not in ("--help", "-h", "--version")])
    places = [each for each in command.params if isinstance(each, click.Argument)]
    assert len(arguments) <= sum(place.nargs for place in places) or any(place.nargs < 0 for place in places), typed
    if whole and not asks_help:
        assert not isinstance(command, click.Group), typed
        missing = [each.name for each in command.params if isinstance(each, click.Option) and each.required]
        assert set(missing) <= given, typed
        assert len(arguments) >= sum(place.required for place in places), typed


def options_of(command: click.Command, words: list[str]) -> tuple[set[str | None], list[str]]:
    """The names of the options given, and the other words. Fails at an option that the command does not have."""
    known = {name: each for each in command.params if isinstance(each, click.Option) for name in each.opts}
    given: set[str | None] = set()
    rest = []
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        assert word in known, f"'{command.name}' has no option {word}"
        given.add(known[word].name)
        if not known[word].is_flag:
            value = next(left)
            choice = known[word].type
            assert not isinstance(choice, click.Choice) or value in choice.choices, f"{word} {value}"
    return given, rest


def test_make_targets_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {found for block in fenced("sh") for found in re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE)}
    assert {"run", "test"} <= shown <= targets


# Requests

_CURL = re.compile(r"^(?:\w+=\S* )?(curl (?:[^\n]*\\\n)*[^\n]*(?:\n {2,}[^\n]*)*)", re.MULTILINE)
REQUESTS = [
    (f"{block}", found[1]) for block in BLOCKS if block.info in ("", "sh") for found in _CURL.finditer(block.text)
]


@dataclass(frozen=True, slots=True)
class Request:
    """What a curl line sends."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str | None


def sent_by(line: str, folder: Path = ROOT, **variables: str) -> Request:
    """The request of a curl line, after a shell has read it."""
    given = "".join(f"{name}={shlex.quote(value)}\n" for name, value in {"KEY": "k", "ID": "id-1", **variables}.items())
    script = f"curl() {{ for word; do printf '%s\\0' \"$word\"; done; }}\n{given}{line}"
    shell = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert not shell.stderr, shell.stderr
    words = iter(shell.stdout.split("\0")[:-1])
    method, url, headers, body = "GET", "", {}, None
    for word in words:
        match word:
            case "-s":
                pass
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name.lower()] = value
            case "--data-binary":
                method = "POST" if next(words).startswith("@") else method
            case "-d":
                body, method = next(words), "POST" if method == "GET" else method
            case _:
                url = word
    assert url.startswith("http://127.0.0.1:8000/"), url
    return Request(method, url.removeprefix("http://127.0.0.1:8000"), headers, body)


@pytest.mark.parametrize(("where", "line"), REQUESTS, ids=[where for where, _ in REQUESTS])
def test_a_request_shown_is_one_the_api_documents(where: str, line: str, tmp_path: Path) -> None:
    (tmp_path / ".arbiter").mkdir()
    (tmp_path / ".arbiter/api.key").write_text("k\n", "ascii")
    request = sent_by(line, tmp_path)
    known = {cell for row in rows("docs/api.md", "Addresses") for cell in code_in(row[0])}
    bare = request.path.partition("?")[0]
    assert any(
        each.startswith(f"{request.method} ") and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each.split(" ")[1]), bare)
        for each in known
    ), f"{where}: {request.method} {bare}"
    assert request.headers.get("authorization", "").startswith("Bearer ")
    if request.body is not None:
        assert request.headers["content-type"] == "application/json"
        body = request.body
        json.loads((ROOT / body[1:]).read_text("utf-8") if body.startswith("@") else body)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_in_process(tmp_path_factory.mktemp("docs")) as found:
        yield found


def test_the_request_in_the_readme_gets_the_answer_in_the_readme(served: Served, tmp_path: Path) -> None:
    (tmp_path / ".arbiter").mkdir()
    (tmp_path / ".arbiter/api.key").write_text(served.keys["score"] + "\n", "ascii")
    (line,) = [line for where, line in REQUESTS if where.startswith("README.md")]
    request = sent_by(line, tmp_path)
    answers = [
        served.call(request.method, request.path, headers=dict(request.headers), content=request.body) for _ in "12"
    ]
    shown, got = json.loads(fenced("json", page="README.md")[0].text), answers[0].json()
    assert {name: got[name] for name in shown} == shown
    assert got.keys() - shown.keys() == {"id", "event_id", "receipt"}
    assert answers[0].content == answers[1].content


def test_the_request_about_lists_is_taken(served: Served) -> None:
    (line,) = [line for where, line in REQUESTS if where.startswith("lists.md")]
    request = sent_by(line, KEY=served.keys["rules"])
    got = served.call(request.method, request.path, headers=dict(request.headers), content=request.body)
    assert (got.status_code, got.json()["state"]) == (201, "active")


# The officer's five minutes


@pytest.mark.slow
def test_the_rule_of_the_guide_fires_after_a_reload_as_told(tmp_path: Path) -> None:
    for name in ("rules", "policies"):
        shutil.copytree(ROOT / name, tmp_path / name)
    KeyFile.create(tmp_path / "keys.json")
    settings = Settings(
        f"sqlite:///{tmp_path}/a.db", "", tmp_path / "keys.json", tmp_path / "rules", tmp_path / "policies"
    )
    (line,) = [line for where, line in REQUESTS if where.startswith("write-a-rule.md") and "/v1/decisions" in line]
    body = sent_by(line).body or ""

    async def reloaded() -> tuple[dict[str, Any], dict[str, Any]]:
        arbiter = await open_arbiter(settings, clock=lambda: books.NOW, rulebook=books.shipped())
        try:
            await books.ready(arbiter)
            before = await books.judged(arbiter, body.replace("night-", "before-").encode())
            write_rule(tmp_path, GUIDED)
            await arbiter.reload(Caller("demo", "service", "shop-a", frozenset({"admin"})))
            return before, await books.judged(arbiter, body.encode())
        finally:
            await arbiter.close()

    before, after = asyncio.run(reloaded())
    assert (before["verdict"], after["verdict"]) == ("approve", "challenge")
    assert "late_event" in after["signals"]
    assert after["reasons"][0]["rule"] == "night-gifts.large"


def test_the_checks_of_the_guide_say_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    books.write(tmp_path, SHIPPED_LISTS)
    shown = [block.text for block in fenced("text", page="write-a-rule.md")]
    got = []
    slips = (("severity: medium", "sevrity: medium"), ("hour(at) < 6", "hour(at) < 3"))
    for rule in (GUIDED, *(GUIDED.replace(right, wrong) for right, wrong in slips)):
        write_rule(tmp_path, rule)
        got.append(CliRunner().invoke(main, ["check", "rules/payments/night-gifts.yaml"]).output)
    assert got == shown


GUIDED = fenced("yaml", page="write-a-rule.md")[0].text


def write_rule(folder: Path, text: str) -> None:
    books.write(folder, {"rules/payments/night-gifts.yaml": text})


# Settings, codes


def test_every_setting_is_documented_with_its_default() -> None:
    told = {
        code_in(name)[0]: "".join(code_in(default)) for name, default, *_ in rows("docs/operations.md", "Settings")[2:]
    }
    real = {f"ARBITER_{field.name.upper()}": field.default for field in fields(Settings)}
    real |= {f"ARBITER_API_{field.name.upper()}": field.default for field in fields(Limits)}
    assert told == {name: "" if default is None else str(default) for name, default in real.items()}


def test_the_page_on_events_says_how_large_one_may_be() -> None:
    text = " ".join((ROOT / "docs/events.md").read_text("utf-8").split())
    assert f"at most {Limits().event_bytes // 1024} KiB, unless `ARBITER_API_EVENT_BYTES` says otherwise" in text
    assert f"at most {MAX_BODY // 1024} KiB whatever it says" in text


def test_pages_name_no_setting_that_does_not_exist_and_no_other_default() -> None:
    real = {f"ARBITER_{field.name.upper()}": field.default for field in fields(Settings)}
    real |= {f"ARBITER_API_{field.name.upper()}": field.default for field in fields(Limits)}
    others = {"ARBITER_TEST", SERVER, KEY_FILE, SETTING}
    for page in PAGES:
        text = page.read_text("utf-8")
        assert set(re.findall(r"\bARBITER_[A-Z_]*[A-Z]\b", text)) <= {*real, *others}, page.name
        for name, default in re.findall(r"^\| `(ARBITER_[A-Z_]+)` \| `([^`]*)`", text, re.MULTILINE):
            assert default == str(real[name]), f"{page.name}: {name}"


@pytest.mark.parametrize(
    "environ",
    [{"ARBITER_REDIS_URL": "http://127.0.0.1"}, {"ARBITER_WORKERS": "2"}, {"ARBITER_DATABAS_URL": "sqlite:///x.db"}],
    ids=lambda environ: next(iter(environ)),
)
def test_what_the_page_says_is_refused_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(environ))):
        Settings.read(environ)


def test_settings_of_the_api_and_of_tests_pass_by_those_of_the_engine() -> None:
    assert Settings.read({"ARBITER_API_RATE_PER_KEY": "10", "ARBITER_TEST_REDIS_URL": "x"}) == Settings.read({})


def test_every_problem_is_documented_with_its_status() -> None:
    told = {code_in(code)[0]: int(status) for code, status, *_ in rows("docs/api.md", "Errors")[2:]}
    assert told == {code: status for code, (status, _) in TABLE.items()}


def test_every_503_is_explained_to_the_operator() -> None:
    told = {code_in(code)[0] for code, *_ in rows("docs/operations.md", "What a 503 means")[2:]}
    assert told == {code for code, (status, _) in TABLE.items() if status == 503}


def test_every_code_of_a_field_problem_is_documented_and_no_other() -> None:
    told = {code for row in rows("docs/api.md", "Codes of `errors`")[2:] for code in code_in(row[0])}
    listed = (ROOT / "engine/schema/refusals.py").read_text("utf-8").split("Codes:")[1].split('"""')[0]
    assert told == field_codes() | set(code_in(listed))


def field_codes() -> set[str]:
    """The codes that engine and API give to problems of fields, as written in their source."""
    found = set()
    for path in (*(ROOT / "engine").rglob("*.py"), *(ROOT / "api").glob("*.py")):
        if path.is_relative_to(ROOT / "engine/mapping"):
            continue  # tables, which only the command line reads
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"FieldProblem": 1, "wrong": 0}.get(node.func.id)
                if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
                    found.add(node.args[place].value)
    return found


# The record

_OPAQUE = {
    "event.public",
    "pins.lists",
    "situation.tests",
    "situation.modes",
    "asks",
    "terms.merchant",
    "terms.anchor",
    "situation.standings",
    "assessment.windows[].value",
    "assessment.factors[].answer",
    "assessment.factors[].because",
    "assessment.factors[].improve",
    "reasons[].message",
    "unusual[].label",
}
"""Parts whose inside is somebody else's."""


def parts_of(record: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every place in a record, as the page names it."""
    for name, value in record.items():
        here = f"{path}{name}"
        if isinstance(value, dict) and here not in _OPAQUE:
            yield from parts_of(value, f"{here}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                yield from parts_of(item, f"{here}[].")
        else:
            yield here


RECORDED = {
    **books.SMALL,
    "policies/goods.yaml": "policy: goods\nfor: [listing]\nverdicts: [approve, decline]\n"
    "tiers: {standard: {decline: 85}}\ndefault_tier: standard\n",
    "policies/till.yaml": books.POLICY
    + "actions:\n  - {when: [strange_amount], do: hold_parcel, for: 2h, basis: house-policy}\n"
    "  - {when: [strange_amount], do: hold_refund, for: 2h, ends: cleared, basis: house-policy}\n"
    "  - {when: [odd_amount], do: call_buyer}\n"
    "modes: {guarded: {do: call_buyer}}\n"
    "terms: [{tier: [standard], payout_delay: 7d}, {profile: anchor, tier: [known], sample: 100%}]\n",
    "policies/tiers/anchor.yaml": ANCHOR,
    "policies/tiers/merchant.yaml": PROFILE,
    "rules/shadow.yaml": books.RULES.replace("small.", "shadowed.").replace("    basis", "    mode: shadow\n    basis"),
    "rules/rolled.yaml": books.RULES.replace("small.", "rolled.").replace(
        "    basis", "    rollout: 0% by card.ref\n    basis"
    ),
    "policies/exceptions/lab.yaml": (
        "exceptions:\n  - {id: lab, rule: small.burst, subject: {device.id: d-0001}, owner: a, reason: ours,"
        " from: 2026-11-01, expires: 2027-01-15, approved_by: b}\n"
    ),
    "rules/worded.yaml": (
        "pack: worded\nabout: x\nfor: payment\nowner: tests\nrules:\n  - id: worded.odd\n"
        "    when: device.browser in list odd\n    signal: odd_browser\n    because: {en: odd, zh: 可疑}\n"
        "    basis: {kind: house-policy, review_by: 2027-05-31}\n"
    ),
    "rules/lists/odd.yaml": "list: odd\nabout: x\nmatch: phrase\ndisguises: true\nentries: [Headless]\n",
    "rules/cited.yaml": test_law.RULE,
    "policies/law/aucl.yaml": test_law.LAW.replace("2025-10-15", "2026-11-23").replace("2025-10-14", "2026-11-22"),
}


async def some_records(folder: Path) -> list[dict[str, Any]]:
    """Records of every type but changes, in which every list holds something."""
    made = books.book(folder, {**RECORDED, "policies/anomaly.yaml": models.DETECTOR})
    pins = [models.trained(made, folder / "models", seed=seed) for seed in (1, 2)]
    pinned = models.DETECTOR + f"model: {pins[0]}\nchallengers: [{pins[1]}]\n"
    books.write(folder, {"policies/anomaly.yaml": pinned})
    KeyFile.create(folder / "keys.json")
    settings = Settings(
        database_url=f"sqlite:///{folder}/a.db",
        key_file=folder / "keys.json",
        rules=folder / "rules",
        policies=folder / "policies",
        model_dir=folder / "models",
    )
    clock = books.Clock()
    async with books.running(settings, clock) as arbiter:
        seen = {"card": {"ref": "c"}, "device": {"id": "d-0001", "browser": "Head-less"}, "livestream": {"anchor": "a"}}
        for number in range(3):
            review = await books.judged(arbiter, books.payment(f"e{number}", 61 if number == 2 else 5, **seen))
        on = b'{"for": "1h", "reason": "cards are being tested"}'
        await arbiter.modes.switch("guarded", on, Caller("duty", "service", "shop-a", frozenset({"deploy"})))
        challenge = await books.judged(arbiter, books.payment("e3", 41, at="2026-11-22T11:00:00Z"))
        ended = b'{"what": "review", "result": "approved", "reason": "known to us"}'
        passed = b'{"what": "challenge", "result": "passed"}'
        later = [
            (await arbiter.resolve(review["id"], ended, books.LI))["record"],
            (await arbiter.resolve(challenge["id"], passed, books.SHOP))["record"],
        ]
        outcome = {
            "kind": "outcome",
            "event_id": "o1",
            "at": "2026-11-23T12:00:00Z",
            "outcome": {"refers_to": "e2", "result": "chargeback"},
        }
        login = {
            "kind": "account",
            "event_id": "l1",
            "at": "2026-11-23T12:00:00Z",
            "account": {"action": "login"},
            "buyer": {"account": "u"},
        }
        noted = [json.loads(await arbiter.observe(json.dumps(each).encode(), books.SHOP)) for each in (outcome, login)]
        for _ in range(2):
            await arbiter.assess_merchant("m-1", books.LI)
        await arbiter.set_merchant_tier("m-1", b'{"tier": "watched", "reason": "disputes"}', books.LI)
        pictured = await on_an_image(arbiter)
        read = [await books.record_of(arbiter, each) for each in (review, challenge, pictured, *noted)]
    return [*read, *later, *await told_records(folder)]


async def told_records(folder: Path) -> list[dict[str, Any]]:
    """A notice that was sent, and every step of an appeal."""
    place = folder / "told"
    books.write(place, TOLD)
    packs = {"rules": place / "rules", "policies": place / "policies"}
    settings = Settings(f"sqlite:///{place}/told.db", key_file=folder / "keys.json", **packs)
    why = {"en": "It was you.", "zh": "经核实。"}
    steps: list[tuple[Caller, dict[str, str]]] = [
        (books.LI, {"what": "ask", **why}),
        (books.SHOP, {"what": "add", "ref": "a-2", "reason": "my mother"}),
        (books.LI, {"what": "decide", "result": "lifted", **why}),
    ]
    async with books.running(settings, books.Clock()) as arbiter:
        id = (await books.judged(arbiter, books.payment("p", 85)))["id"]
        sha256 = (await arbiter.notice(id, books.SHOP, "person", "en"))["sha256"]
        sent = {"channel": "sms", "lang": "en", "sha256": sha256}
        made = [await arbiter.notice_sent(id, json.dumps(sent).encode(), books.SHOP)]
        new = {"kind": "appeal", "ref": "a", "reason": "not me"}
        made.append(await arbiter.hearings.open(id, json.dumps(new).encode(), books.SHOP))
        for caller, body in steps:
            appeal = made[1]["appeal"]["id"]
            made.append(await arbiter.hearings.step(id, appeal, json.dumps(body).encode(), caller))
    return [each["record"] for each in made]


async def on_an_image(arbiter: Arbiter) -> dict[str, Any]:
    """A decision on a listing with an image that is like a known one, and on which a detector saw something."""
    name = (await arbiter.take_image(pictures.saved(pictures.drawn(1)), books.SHOP))["sha256"]
    known = {"image": name, "kind": "banned", "label": "air-gun", "reason": "seized"}
    await arbiter.references.add(json.dumps(known).encode(), books.LI)
    gallery = arbiter._gallery
    gallery.detector = "d" * 64
    boxes = (Detection("gun", 871, (1, 2, 3, 4)),)
    seen = await gallery.image("shop-a", name)
    await gallery.keep("shop-a", replace(seen, detector=gallery.detector, detections=boxes))
    listing = {
        "kind": "listing",
        "event_id": "picture-1",
        "at": "2026-11-23T12:00:00Z",
        "listing": {"id": "l", "title": "样品", "images": [{"hash": f"sha256:{name}"}]},
    }
    return await books.judged(arbiter, json.dumps(listing).encode())


def exported(folder: Path) -> list[dict[str, Any]]:
    """The records that the auditor gets, written below `folder` as the page has it."""
    environ = {"ARBITER_DATABASE_URL": f"sqlite:///{folder}/a.db", "ARBITER_KEY_FILE": str(folder / "keys.json")}
    ended = CliRunner().invoke(main, ["audit", "export", "--out", str(folder / "november")], env=environ)
    assert ended.exit_code == 0, ended.output
    return [json.loads(line) for line in (folder / "november/entries.jsonl").read_bytes().splitlines()]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("records")
    read = asyncio.run(some_records(folder))
    return folder, [*read, *(record for record in exported(folder) if record["type"] == "change")]


@pytest.mark.parametrize("kind", ["decision", "event", "resolution", "notice", "appeal", "change"])
def test_every_field_of_a_record_is_documented_and_no_other(
    kind: str, recorded: tuple[Path, list[dict[str, Any]]]
) -> None:
    found = {part for record in recorded[1] if record["type"] == kind for part in parts_of(record)}
    # A list that is empty in one record and has parts in another.
    found -= {part.partition("[]")[0] for part in found if "[]" in part}
    told = [code_in(name)[0] for name, *_ in rows("docs/record.md", kind.capitalize())[2:]]
    assert len(told) == len(set(told))
    assert set(told) == found


def test_every_kind_of_change_is_documented() -> None:
    (what,) = [row[1] for row in rows("docs/record.md", "Change") if row[0] == "`what`"]
    source = "".join(path.read_text("utf-8") for path in (ROOT / "engine").glob("*.py"))
    written = re.findall(r'(?:_changes\.record|journal\.change|_keep|_say|_enter)\([^\n]*?"([a-z_]+)"', source)
    assert set(code_in(what)) == {*written, compliance.WHAT, alarms.RAISED, alarms.CLEARED}


def test_the_page_shows_how_an_export_is_verified(
    recorded: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own command, in the folder where the export is, with the key noted elsewhere."""
    monkeypatch.chdir(recorded[0])
    (block,) = [each for each in fenced("sh", page="audit.md") if "verify.py" in each.text]
    key = verifier(KeyFile.read(recorded[0] / "keys.json").signer).text
    typed = [sys.executable, *block.text.replace("KEY", key).split()[1:]]
    run = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.splitlines()[-1]) == (0, "all of it holds"), run


# The README and the index


def test_the_layout_in_the_readme_is_that_of_the_folders() -> None:
    (text,) = [block.text for block in fenced("text", page="README.md") if "engine/" in block.text]
    told = [line.split()[0].rstrip("/") for line in text.splitlines()]
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which folders belong to the project is not known")
    folders = {name.split("/")[0] for name in listed.stdout.split("\0") if "/" in name}
    assert told == sorted(name for name in folders if not name.startswith("."))


def test_the_floors_in_the_readme_are_those_that_the_linter_holds() -> None:
    (text,) = [block.text for block in fenced("text", page="README.md") if block.text.startswith("assembly")]
    told = [re.split(r" {2,}", line)[0].split(" | ") for line in text.splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    floors = next(each["layers"] for each in contracts if each.get("containers") == ["engine"])
    assert told == [[name.strip("()") for name in floor.split(" | ")] for floor in floors]


def test_the_readme_counts_the_shipped_rules() -> None:
    readme, rules = (ROOT / "README.md").read_text("utf-8"), books.shipped().rules
    assert f"{len(rules)} rules are shipped" in readme
    assert f"{sum(bool(rule.finding.cites) for rule in rules)} of the rules cite articles of law" in readme


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs/README.md").read_text("utf-8")))
    assert linked == {page.name for page in PAGES if page.name != "README.md"}
