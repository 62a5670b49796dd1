"""The file of retention: what it says holds, and what cannot hold is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.books import SMALL, book, told
from tests.test_erasure import KINDS, RETENTION

DAY = 86_400 * 1_000_000
ALL = f"[{KINDS}, outcome]"


def test_terms_count_from_the_event(tmp_path: Path) -> None:
    """A floor is the law's term and 90 days, as far as personal data is kept so long; a year is a leap year."""
    retention = book(tmp_path, {**SMALL, "policies/retention.yaml": RETENTION}).retention
    assert retention.floor("payment", 5) == 5 + (3 * 366 + 90) * DAY
    assert retention.ends("digests")["payment"] == 30 * DAY
    assert retention.ends("personal")["outcome"] == 4 * 366 * DAY


def test_without_a_file_nothing_ends_and_nothing_waits(tmp_path: Path) -> None:
    retention = book(tmp_path, SMALL).retention
    assert retention.floor("payment", 0) is None
    assert retention.ends("personal") == {}


def test_a_class_without_a_floor_waits_for_nothing(tmp_path: Path) -> None:
    free = RETENTION.replace("    floor: {term: 3y, law: [cn.ecl.31]}\n", "")
    assert book(tmp_path, {**SMALL, "policies/retention.yaml": free}).retention.floor("payment", 0) is None


def test_the_copies_of_disputes_have_a_term_of_their_own_or_none(tmp_path: Path) -> None:
    assert book(tmp_path, {**SMALL, "policies/retention.yaml": RETENTION}).retention.disputes is None
    named = RETENTION + "disputes: {kept: 540d, law: [cn.pipl.47], because: {en: the schemes, zh: 卡组织}}\n"
    disputes = book(tmp_path, {**SMALL, "policies/retention.yaml": named}).retention.disputes
    assert disputes is not None
    assert disputes.kept == 540 * DAY


WRONG = {
    "a term in words": ("personal: 4y", "personal: four years", "write a term such as 180d or 3y, at most 100y"),
    "no term": ("personal: 4y", "personal: 0d", "write a term such as 180d or 3y"),
    "data gone before its floor": ("personal: 4y", "personal: 2y", "personal data would go before the term of the law"),
    "a floor below the law's": (
        "{term: 3y, law",
        "{term: 1y, law",
        "cn.ecl.31 asks for 3 years, this floor is shorter",
    ),
    "a floor without a law": (", law: [cn.ecl.31]", "", "'law' is missing"),
    "an article that is none": ("cn.ecl.31", "Art. 31", "write country, law and article, such as cn.ecl.13"),
    "a kind that is none": (", outcome]", ", outcomes]", "'outcomes' is no kind of event"),
    "a kind without a class": (", outcome]", "]", "no class says how long these kinds of event are kept: outcome"),
    "disputes in words": (
        "classes:",
        "disputes: {kept: long, because: {en: so, zh: 是}}\nclasses:",
        "such as 180d or 3y",
    ),
    "disputes without a why": ("classes:", "disputes: {kept: 180d}\nclasses:", "'because' is missing"),
    "a kind twice": (", outcome]", ", outcome, payment]", "'payment' is in the class 'all' already"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_hold_is_told(tmp_path: Path, what: str) -> None:
    before, after, says = WRONG[what]
    assert before in RETENTION
    said = "\n".join(told(tmp_path, {**SMALL, "policies/retention.yaml": RETENTION.replace(before, after)}))
    assert says in said
    assert said.startswith("retention.yaml:") or "policies/retention.yaml:" in said


def test_pseudonyms_last_as_long_as_windows_look_back(tmp_path: Path) -> None:
    """Else a start would count other windows than the server before it."""
    far = SMALL["rules/small.yaml"].replace("count(last 10m by card.ref", "count(last 30d by card.ref")
    short = RETENTION.replace("pseudonyms: 4y", "pseudonyms: 29d")
    said = "\n".join(told(tmp_path, {**SMALL, "rules/small.yaml": far, "policies/retention.yaml": short}))
    assert "rules look back 30 days at payment events, further than this" in said
    exact = RETENTION.replace("pseudonyms: 4y", "pseudonyms: 30d")
    assert told(tmp_path, {**SMALL, "rules/small.yaml": far, "policies/retention.yaml": exact}) == []


def test_two_files_are_one_too_many(tmp_path: Path) -> None:
    files = {**SMALL, "policies/retention.yaml": RETENTION, "policies/more.yaml": RETENTION}
    assert any("there is a second file of retention" in each for each in told(tmp_path, files))
