"""Two rulebooks over one history: what changed, which verdicts flip, and why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import books
from tests.books import ROOT
from tests.test_backtest import HANDBOOK, arbiter, payments

__all__ = ["payments"]

MAPPING = ROOT / "docs/examples/handbook.map.yaml"


def checkout(home: Path) -> Path:
    """The handbook's rulebook in a folder of its own."""
    paths = [path for name in ("rules", "policies") for path in (HANDBOOK / name).iterdir()]
    books.write(home, {f"{path.parent.name}/{path.name}": path.read_text("utf-8") for path in paths})
    return home


def changed(home: Path, old: str, new: str) -> Path:
    rules = home / "rules/handbook.yaml"
    text = rules.read_text("utf-8")
    assert old in text
    rules.write_text(text.replace(old, new), "utf-8")
    return home


@pytest.fixture
def stricter(tmp_path: Path) -> Path:
    """The amount from which a payment is large is 22 EUR: the payments have 20, 21 and 22, and one has 250."""
    return changed(checkout(tmp_path / "stricter"), "amount > 220 EUR", "amount >= 22 EUR")


def test_a_diff_says_what_changed_and_which_verdicts_flip(payments: Path, stricter: Path) -> None:
    found = arbiter("diff", HANDBOOK, stricter, "--data", payments, "--map", MAPPING, "--sample", 2)
    assert found.exit_code == 0, found.output
    flipped = [row for row in pq_rows(payments) if row[4] == "22"]
    frauds = sum(row[5] == "1" for row in flipped)
    lines = found.output.splitlines()
    assert "- rules changed: `handbook.large-amount`" in lines
    assert "- files: `rules/handbook.yaml`" in lines
    heads = [line for line in lines if line.startswith("### ")]
    # Those of the compromised terminal were declined before.
    assert [head.split(":")[0] for head in heads] == ["### approve → decline"]
    number = int(heads[0].split(": ")[1].split()[0])
    assert 0 < number < len(flipped)
    assert f" of them fraud, 7 customers, {number * 22:,} EUR." in found.output
    assert int(next(line for line in lines if "of them fraud" in line).split()[0]) < frauds
    shown = [line for line in lines if line.startswith("- row ")]
    assert len(shown) == 2
    assert all(", 22 EUR" in line and "score 0 → 50" in line for line in shown)
    assert all("+08:00, 22 EUR" in line for line in shown)
    assert lines.count("  - now `handbook.large-amount`: `amount >= 22 EUR`") == 2
    again = arbiter("diff", HANDBOOK, stricter, "--data", payments, "--map", MAPPING, "--sample", 2)
    assert again.output == found.output


def pq_rows(table: Path) -> list[list[str]]:
    return [line.split(",") for line in table.read_text("utf-8").splitlines()[1:]]


def test_the_counts_of_a_diff_are_those_of_two_backtests(tmp_path: Path, payments: Path, stricter: Path) -> None:
    verdicts = []
    for name, home in (("one", HANDBOOK), ("other", stricter)):
        folders = ("--rules", home / "rules", "--policies", home / "policies")
        arbiter("backtest", "--data", payments, "--map", MAPPING, "--out", tmp_path / name, *folders)
        verdicts.append(pq.read_table(tmp_path / name / "verdicts.parquet")["verdict"].to_pylist())
    flips = sum(one != other for one, other in zip(*verdicts, strict=True))
    found = arbiter("diff", HANDBOOK, stricter, "--data", payments, "--map", MAPPING)
    assert f"\n{flips} verdicts (" in found.output


def test_a_rulebook_and_itself_differ_in_nothing(payments: Path) -> None:
    found = arbiter("diff", HANDBOOK, HANDBOOK, "--data", payments, "--map", MAPPING)
    assert found.exit_code == 0, found.output
    assert "- no file" in found.output
    assert "No verdict changes." in found.output


def test_a_revision_is_compared_with_a_folder(tmp_path: Path, payments: Path) -> None:
    home = checkout(tmp_path / "home")
    git = ("git", "-C", str(home), "-c", "user.name=tests", "-c", "user.email=tests@example.invalid")
    for args in (("init", "-q"), ("add", "."), ("commit", "-qm", "then")):
        subprocess.run([*git, *args], check=True)
    changed(home, "id: handbook.large-amount", "id: handbook.large")
    folders = ("--rules", home / "rules", "--policies", home / "policies")
    found = arbiter("diff", "HEAD", home, "--data", payments, "--map", MAPPING, *folders)
    assert found.exit_code == 0, found.output
    assert "- rules added: `handbook.large`" in found.output
    assert "- rules removed: `handbook.large-amount`" in found.output
    assert "No verdict changes." in found.output


@pytest.mark.parametrize(
    ("old", "says"), [("docs", "has no folders rules and policies in it"), ("no-such-branch", "has no revision")]
)
def test_a_side_that_is_no_rulebook_is_refused(
    payments: Path, monkeypatch: pytest.MonkeyPatch, old: str, says: str
) -> None:
    monkeypatch.chdir(ROOT)
    found = arbiter("diff", old, HANDBOOK, "--data", payments, "--map", MAPPING)
    assert (found.exit_code, says in found.output) == (1, True), found.output
