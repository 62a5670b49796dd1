"""`arbiter rule new`: a rule that passes, or nothing."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from engine.packs import read
from engine.packs.layout import laid_out
from engine.rules import RulePack
from tests import books

POLICY = books.POLICY.replace("for: [payment]", "for: [transaction]")
ANSWERS = {
    "for": "transaction",
    "about": "Large first orders: gifts look alike.",
    "owner": "payments-risk",
    "when": "buyer.guest and amount in CNY > 5000 CNY",
    "signal": "large_guest",
    "en": 'A "guest" orders for {amount}',
    "zh": "访客订单 {amount}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    books.write(tmp_path, {"policies/till.yaml": POLICY, **books.LISTS, "rules/small/small.yaml": books.RULES})
    return tmp_path


def new(folder: Path, id: str, **options: str | None) -> Result:
    given = [f"--{key.replace('_', '-')}={value}" for key, value in options.items() if value is not None]
    where = [f"--rules={folder / 'rules'}", f"--policies={folder / 'policies'}"]
    return CliRunner().invoke(main, ["rule", "new", id, *given, *where])


def check(folder: Path) -> Result:
    return CliRunner().invoke(main, ["check", f"--rules={folder / 'rules'}", f"--policies={folder / 'policies'}"])


def test_a_new_file_has_a_rule_with_both_tests_and_passes(folder: Path) -> None:
    found = new(folder, "first-order.large-guest", **ANSWERS)
    assert found.exit_code == 0, found.output
    file = folder / "rules/first-order.yaml"
    document = read(file, root=folder / "rules")
    (rule,) = document.data["rules"]
    assert rule["mode"] == "shadow"
    assert [(test["expect"], test["event"]) for test in rule["tests"]] == [
        ("fires", {"amount": "5000.01 CNY", "buyer.guest": True}),
        ("quiet", {"amount": "5000.00 CNY", "buyer.guest": True}),
    ]
    assert rule["because"] == {"en": ANSWERS["en"], "zh": ANSWERS["zh"]}
    assert laid_out(document, RulePack) == file.read_text()
    assert check(folder).exit_code == 0
    assert "first-order" not in check(folder).stderr


def test_a_rule_is_added_at_the_end_of_the_file_of_its_name_which_keeps_its_comments(folder: Path) -> None:
    file = folder / "rules/small/small.yaml"
    file.write_text(file.read_text().replace("rules:\n", "rules:  # mine\n"))
    found = new(folder, "small.second", when="tries >= 3", signal="twice", en="x {tries}", zh="中 {tries}")
    assert found.exit_code == 0, found.output
    data = read(file, root=folder).data
    assert [rule["id"] for rule in data["rules"]][-2:] == ["small.listed", "small.second"]
    assert [test["expect"] for test in data["rules"][-1]["tests"]] == ["fires", "quiet"]
    assert "# mine" in file.read_text()
    assert check(folder).exit_code == 0


REFUSED = [
    ("an id that is there", "small.burst", {}, "a rule 'small.burst' in"),
    ("an id without a file", "burst", {}, "'burst' is no id"),
    ("a file of something else", "bad-bins.x", {}, "holds no rules"),
    ("answers that are missing", "other.x", {"when": None, "zh": None}, "give --when, --zh"),
    ("a condition with a mistake", "other.x", {"when": "amont > 5 CNY"}, "did you mean 'amount'?"),
    ("a condition that is none", "other.x", {"when": "amount >"}, "other.yaml:7:18: the condition ends too early"),
    ("a kind there is not", "other.x", {"for": "trnsaction"}, "did you mean 'transaction'?"),
    ("a rule that cannot fire", "other.x", {"when": "amount > 5 CNY and amount < 5 CNY"}, "give one with --fires"),
    ("an event on which it does not fire", "other.x", {"fires": "amount: 5.00 CNY"}, "on that event it fires not"),
    ("an event that is none", "other.x", {"fires": "amount 5"}, "is no event"),
]


@pytest.mark.parametrize(("id", "other", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_nothing_is_written_for(id: str, other: dict[str, str | None], said: str, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.yaml")}
    found = new(folder, id, **{**ANSWERS, **other})
    assert found.exit_code == 1
    assert said in found.output
    assert {path: path.read_bytes() for path in folder.rglob("*.yaml")} == before


def test_events_of_ones_own_become_the_tests(folder: Path) -> None:
    events = {
        "fires": "amount: 9000.00 CNY, buyer.guest: true",
        "stays_quiet": "{amount: 9000.00 CNY, buyer.guest: false}",
    }
    assert new(folder, "other.x", **{**ANSWERS, **events}).exit_code == 0
    tests = read(folder / "rules/other.yaml", root=folder).data["rules"][0]["tests"]
    assert [test["event"]["amount"] for test in tests] == ["9000.00 CNY", "9000.00 CNY"]


def test_what_is_not_given_is_asked_for_and_asked_again_where_it_was_wrong(folder: Path) -> None:
    said = [
        "transaction",
        "About.",
        "risk",
        "amont > 5 CNY",
        "amount > 5 CNY",
        "odd",
        "low",
        "15",
        "{amount}",
        "金额 {amunt}",
        "金额 {amount}",
    ]
    pid, terminal = pty.fork()
    if pid == 0:
        words = ["rule", "new", "other.x", "--rules", str(folder / "rules"), "--policies", str(folder / "policies")]
        os.execv(sys.executable, [sys.executable, "-c", "from cli import main; main()", *words])
    os.write(terminal, "".join(f"{line}\n" for line in said).encode())
    shown = b""
    while True:
        try:
            shown += (part := os.read(terminal, 4096))
        except OSError:
            break
        if not part:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown.decode()
    told, rest = shown.decode().split("What has it found", 1)
    assert "did you mean 'amount'?" in told, "before the next question"
    assert "did you mean 'amount'?" in rest
    assert shown.decode().count("The condition, such as") == 2
    (rule,) = read(folder / "rules/other.yaml", root=folder).data["rules"]
    assert (rule["when"], rule["points"], len(rule["tests"])) == ("amount > 5 CNY", 15, 2)
