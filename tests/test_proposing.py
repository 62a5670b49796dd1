"""`arbiter propose`, `proposal` and `rollback` against a server, as officers type them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from tests.books import POLICY, RULES, SMALL, write
from tests.serving import serve_on_loopback

pytestmark = pytest.mark.service


@dataclass(frozen=True)
class Desk:
    """Officers before a server: each types with the key in his own file."""

    folder: Path
    url: str

    def types(self, who: str, *typed: str) -> Result:
        asked = ["--server", self.url, "--key-file", str(self.folder / f"{who}.key")]
        return CliRunner().invoke(main, [*typed, *asked])

    def proposes(self, *more: str, who: str = "li.si") -> str:
        packs = ["--rules", str(self.folder / "packs/rules"), "--policies", str(self.folder / "packs/policies")]
        said = self.types(who, "propose", "--reason", "fewer asked", *packs, *more)
        assert said.exit_code == 0, said.output
        return said.stdout.strip()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    write(tmp_path / "packs", SMALL)
    with serve_on_loopback(tmp_path, packs=tmp_path / "packs", approval="required") as (served, port):
        for name, kind, scopes in (
            ("li.si", "person", ["author", "approve"]),
            ("wang.wu", "person", ["approve", "deploy"]),
            ("ci", "service", ["author", "deploy"]),
        ):
            key = served.loop.run(served.arbiter.create_key(name, kind, "shop-a", scopes))
            (tmp_path / f"{name}.key").write_text(key + "\n", "utf-8")
        rules = RULES.replace("amount == 41 CNY", "amount == 42 CNY")
        write(tmp_path / "packs", {**SMALL, "rules/small.yaml": rules})
        yield Desk(tmp_path, f"http://127.0.0.1:{port}")


def test_officers_bring_a_rulebook_into_force_and_take_it_back(desk: Desk) -> None:
    (desk.folder / "backtest.md").write_text("7 fewer\x1b[2J", "utf-8")
    id = desk.proposes("--paper", str(desk.folder / "backtest.md"))
    shown = desk.types("wang.wu", "proposal", "show", id[:8], "--diff").output
    said = [
        desk.types(who, *typed.split()).output
        for who, typed in (
            ("li.si", f"proposal approve {id}"),
            ("ci", f"proposal activate {id}"),
            ("wang.wu", f"proposal approve {id[:8]} --reason seen"),
            ("ci", f"proposal activate {id}"),
            ("wang.wu", "proposal list"),
            ("ci", "rollback --reason wrong"),
            ("wang.wu", "proposal list"),
        )
    ]

    assert "-    when: amount == 41 CNY\n+    when: amount == 42 CNY\n" in shown
    assert "changed: rule small.challenge\nchanged: file rules/small.yaml\npaper: backtest.md\n" in shown
    assert "paper: checks.txt\npaper: mutation.txt\n" in shown
    assert said[0].startswith("arbiter: a rulebook is approved by another person")
    assert said[1].startswith("arbiter: this proposal is not approved")
    assert said[2] == f"{id[:12]} is approved\n"
    assert " decides now, before it " in said[3]
    assert said[4].startswith(f"{id[:12]}  in force  li.si")
    assert " decides again, before it " in said[5]
    assert said[6].startswith(f"{id[:12]}  replaced  li.si")
    paper = desk.types("wang.wu", "proposal", "show", id, "--paper", "backtest.md").output
    assert paper == "7 fewer\ufffd[2J\n"


PAYMENTS = """\
id,at,amount
p1,2026-11-01T10:00:00Z,41.00
p2,2026-11-02T10:00:00Z,42.00
p3,2026-11-03T10:00:00Z,43.00
"""

MAP = """\
map: payments
about: Payments that tests choose.
kind: payment
zone: UTC
fields:
  event_id: id
  order_id: id
  at: at
  amount: {column: amount, currency: CNY}
  payment.stage: {value: attempt}
"""


def test_beside_a_proposal_lie_its_checks_what_its_tests_miss_and_the_verdicts_it_changes(desk: Desk) -> None:
    (desk.folder / "payments.csv").write_text(PAYMENTS, "utf-8")
    (desk.folder / "payments.map.yaml").write_text(MAP, "utf-8")
    history = ["--data", str(desk.folder / "payments.csv"), "--map", str(desk.folder / "payments.map.yaml")]
    id = desk.proposes(*history)
    papers = json.loads(desk.types("wang.wu", "proposal", "show", id, "--json").output)["papers"]

    assert list(papers) == ["checks.txt", "mutation.txt", "verdicts.md"]
    assert papers["checks.txt"].startswith(
        "5 rules, 2 lists, 1 policy, 0 tests passed, 0 problems\nnotice: rules/small.yaml:"
    )
    # The rule that was changed alone, and the test that its author did not write.
    assert re.findall(r"rule '(.*)': 0 of \d+ killed", papers["mutation.txt"]) == ["small.challenge"]
    assert "this test would notice:" in papers["mutation.txt"]
    assert "From `what is in force` to `this proposal`" in papers["verdicts.md"]
    assert "### approve → challenge: 1 event" in papers["verdicts.md"]
    assert "### challenge → approve: 1 event" in papers["verdicts.md"]


def test_a_proposal_that_changes_no_rule_has_nothing_to_mutate(desk: Desk) -> None:
    write(desk.folder / "packs", {**SMALL, "policies/till.yaml": POLICY.replace("decline: 85", "decline: 90")})
    shown = desk.types("wang.wu", "proposal", "show", desk.proposes()).output

    assert shown.endswith("changed: policy till\nchanged: file policies/till.yaml\npaper: checks.txt\n"), shown


def test_what_was_forced_shows_until_somebody_else_has_looked_at_it(desk: Desk) -> None:
    id = desk.proposes()
    forced = desk.types("wang.wu", "proposal", "activate", id, "--force", "--reason", "cards are tested")
    seen = [desk.types("wang.wu", "proposal", "list").output]
    own = desk.types("wang.wu", "proposal", "approve", id)
    desk.types("li.si", "proposal", "decline", id, "--reason", "too wide")
    seen.append(desk.types("wang.wu", "proposal", "list").output)

    assert "another person has to look at it until " in forced.output
    assert "in force, unseen" in seen[0]
    assert own.exit_code == 1
    assert f"{id[:12]}  in force  " in seen[1]


def test_a_program_proposes_for_the_person_that_it_names(desk: Desk) -> None:
    id = desk.proposes("--person", "wang.wu", who="ci")
    said = json.loads(desk.types("wang.wu", "proposal", "show", id, "--json").output)

    assert said["author"] == "wang.wu"
    assert desk.types("wang.wu", "proposal", "approve", id).exit_code == 1
    assert desk.types("li.si", "proposal", "approve", id).exit_code == 0


def test_a_paper_cannot_take_the_place_of_one_that_is_made_here(desk: Desk) -> None:
    (desk.folder / "checks.txt").write_text("all is well", "utf-8")
    said = desk.types("li.si", "propose", "--reason", "x", "--paper", str(desk.folder / "checks.txt"))
    assert (said.exit_code, "checks.txt is made here" in said.output) == (1, True), said.output


REFUSED: dict[str, tuple[str, str, str]] = {
    "a key without the scope": ("wang.wu", "propose --reason x", "This needs a key with the scope author."),
    "an unknown id": ("wang.wu", "proposal approve 01234567", "no proposal has an id that begins with 01234567"),
    "half a history": ("li.si", "propose --reason x --data /dev/null", "--data and --map go together"),
    "no id at all": ("wang.wu", "proposal decline --reason x ''", "give at least the first 8 digits"),
    "a rollback to nothing": ("wang.wu", "rollback --reason x", "no other rulebook was in force before this one"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_server_refuses_is_said_in_its_words(desk: Desk, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    who, typed, words = REFUSED[what]
    for folder in ("rules", "policies"):
        monkeypatch.setenv(f"ARBITER_{folder.upper()}", str(desk.folder / "packs" / folder))
    said = desk.types(who, *shlex.split(typed))

    assert (said.exit_code, words in said.output) == (1, True), said.output


def test_a_mistake_in_the_packs_is_shown_at_its_place_before_anything_is_sent(desk: Desk) -> None:
    write(desk.folder / "packs", {"rules/small.yaml": RULES.replace("tries >= 3", "trys >= 3")})
    packs = ["--rules", str(desk.folder / "packs/rules"), "--policies", str(desk.folder / "packs/policies")]
    said = desk.types("li.si", "propose", "--reason", "x", *packs)

    assert (said.exit_code, "rules/small.yaml:30:11: unknown name 'trys'" in said.output) == (1, True), said.output


def test_a_suite_that_fails_keeps_a_rulebook_from_being_proposed(desk: Desk) -> None:
    """The server does not see suites: they are no part of the rulebook."""
    case = "{it: declines small amounts, event: {amount: 1.00 CNY}, expect: {verdict: decline}}"
    write(desk.folder / "packs", {"policies/till_test.yaml": f"suite: till\nfor: payment\ncases:\n  - {case}\n"})
    packs = ["--rules", str(desk.folder / "packs/rules"), "--policies", str(desk.folder / "packs/policies")]
    said = desk.types("li.si", "propose", "--reason", "x", *packs)

    assert (said.exit_code, "policies/till_test.yaml:4:" in said.output) == (1, True), said.output
    assert desk.types("li.si", "proposal", "list").stdout == ""


@pytest.mark.parametrize("server", ["http://arbiter.example.com", "ftp://127.0.0.1", "arbiter.example.com"])
def test_a_key_is_not_sent_in_clear_over_a_network(tmp_path: Path, server: str) -> None:
    (tmp_path / "li.key").write_text("arb_0123456789", "utf-8")
    asked = ["--server", server, "--key-file", str(tmp_path / "li.key")]
    said = CliRunner().invoke(main, ["proposal", "list", *asked])

    assert (said.exit_code, "give an https:// address" in said.output) == (1, True), said.output


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "li.key").write_text("arb_0123456789", "utf-8")
    asked = ["--server", "http://127.0.0.1:9", "--key-file", str(tmp_path / "li.key")]
    said = CliRunner().invoke(main, ["proposal", "list", *asked])

    assert (said.exit_code, "http://127.0.0.1:9 does not answer" in said.output) == (1, True), said.output


def test_a_proposal_is_told_in_chinese(desk: Desk) -> None:
    paper = desk.folder / "backtest.md"
    paper.write_text("7 fewer", "utf-8")
    packs = ["--rules", str(desk.folder / "packs/rules"), "--policies", str(desk.folder / "packs/policies")]
    chinese = ("--lang", "zh")
    made = desk.types("li.si", "propose", "--reason", "it is in force", *packs, "--paper", str(paper), *chinese)
    id = made.stdout.strip()
    said = {
        typed: desk.types(who, *typed.split(), *chinese).output
        for who, typed in (
            ("li.si", f"proposal approve {id}"),
            ("ci", f"proposal activate {id}"),
            ("wang.wu", f"proposal approve {id} --reason seen"),
            ("wang.wu", f"proposal show {id}"),
            ("wang.wu", f"proposal show {id} --paper checks.txt"),
            ("ci", f"proposal activate {id}"),
            ("wang.wu", "proposal list"),
            ("ci", "rollback --reason wrong"),
        )
    }
    shown = said[f"proposal show {id}"].splitlines()

    assert "状态：待批准\n" in made.stderr
    assert said[f"proposal approve {id}"] == "arbiter: 规则集须由提案者以外的人批准\n"
    assert said[f"proposal approve {id} --reason seen"] == f"{id[:12]} 现为 已批准\n"
    assert [line.partition("：")[0] for line in shown] == [
        *("提案", "状态", "作者", "理由", "规则集", "批准", "评语", "测试", "已改变", "已改变", "附件", "附件", "附件")
    ]
    assert "理由：it is in force" in shown
    assert re.match(r"\d+ 条规则，", said[f"proposal show {id} --paper checks.txt"])
    assert "已改变：规则 small.challenge" in shown
    assert f"{id[:12]}  已生效  li.si" in said["proposal list"]
    assert re.search(r"^[0-9a-f]{12} 重新开始判定，此前是 [0-9a-f]{12}\n$", said["rollback --reason wrong"])


def test_json_of_proposals_is_the_same_in_every_language(desk: Desk) -> None:
    id = desk.proposes()

    assert (
        desk.types("wang.wu", "proposal", "show", id, "--json", "--lang", "zh").stdout
        == desk.types("wang.wu", "proposal", "show", id, "--json").stdout
    )
