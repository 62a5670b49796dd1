"""The page for officers, typed from top to bottom: a rule from idea to force, and back."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from tests.serving import Served, serve_on_loopback

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/officer.md").read_text("utf-8")

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.timeout(600)]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A folder with the shipped packs and the made-up month, and a server that asks for approval."""
    for name in ("rules", "policies", "docs/examples/october"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").mkdir()
    with serve_on_loopback(tmp_path / "server", approval="required") as (served, port):
        for name, scopes in (("li.si", ["author"]), ("wang.wu", ["approve", "deploy"])):
            key = served.loop.run(served.arbiter.create_key(name, "person", "default", scopes))
            (tmp_path / f"{name.partition('.')[0]}.key").write_text(key, "utf-8")
        monkeypatch.setenv("ARBITER_SERVER", f"http://127.0.0.1:{port}")
        yield served


SHOWN = ("proposal show 5f0c12ab --diff", "proposal show 5f0c12ab --paper")


def typed(start: str) -> list[str]:
    """The command of the page that begins so."""
    (line,) = {line for line in re.findall(r"^arbiter (.+)$", PAGE, re.MULTILINE) if line.startswith(start)}
    return shlex.split(line)


def says(*words: str) -> str:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return result.output


def answers() -> dict[str, str]:
    """What the page answers to what is asked for."""
    rows = re.findall(r"^\| ([a-z][^|]*) \| `([^|]*)` \|$", PAGE, re.MULTILINE)
    return dict(rows)


def test_an_officer_brings_a_rule_into_force_and_takes_it_back(shop: Served, tmp_path: Path) -> None:
    said = answers()
    options = {
        "for": said["kind of event"],
        "about": said["what it is against"],
        "owner": said["who answers for it"],
        "when": said["condition"],
        "signal": said["signal"],
        "severity": "medium",
        "points": "40",
        "en": said["reason in English"],
        "zh": said["reason in Chinese"],
    }
    assert said["severity, points"] == "medium`, `40"
    says(*typed("rule new"), *(part for name, value in options.items() for part in (f"--{name}", value)))
    file = tmp_path / "rules/night-gifts.yaml"
    assert "1 rule, 2 tests passed, 0 problems" in says(*typed("check"))

    (test,) = set(re.findall(r"  this test would notice:\n((?:      .*\n)+)", says(*typed("test --mutate")))[:1])
    file.write_text(file.read_text("utf-8") + test, "utf-8")
    assert "1 rule, 3 tests passed, 0 problems" in says(*typed("check"))

    shown = re.search(r"```text\n(rule .*\n)(night-gifts.*\n)```", PAGE)
    assert shown is not None
    printed = says(*typed("backtest"))
    assert [line in printed for line in shown.groups()] == [True, True], printed
    assert (tmp_path / "last-month/report.html").exists()

    suggestion = re.search(r"```text\n(suggested: .*\n.*\n)```", PAGE)
    assert suggestion is not None
    assert suggestion[1] in says(*typed("tune"))

    file.write_text(file.read_text("utf-8").replace("mode: shadow", "mode: live"), "utf-8")
    live = says(*typed("backtest")[:-1], "with-it")
    asked = re.search(r"^challenge +(\d+)", live, re.MULTILINE)
    assert asked is not None, live
    assert int(asked[1]) > 50, live

    id = says(*typed("propose")).splitlines()[-1]
    before = shop.arbiter.rulebook_info()["hash"]
    seen = [
        says(*(id if word == "5f0c12ab" else word for word in typed(start)))
        for start in ("proposal list", *SHOWN, "proposal approve", "proposal activate")
    ]
    assert "added: rule night-gifts.large" in seen[1]
    assert re.search(r"### approve → challenge: \d+ events", seen[2]), seen[2]
    assert "night-gifts.large" in {rule["id"] for rule in shop.arbiter.rulebook_info()["rules"]}
    says(*typed("rollback"))
    assert shop.arbiter.rulebook_info()["hash"] == before
