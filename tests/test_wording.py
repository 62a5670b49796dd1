"""The files of notices: what they may say, and what `arbiter check` finds in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from engine.policy import Policy
from engine.rulebook import Rulebook
from engine.wording import ANY, ENDS, EVENTS
from tests import books
from tests.told import NOTICES, TOLD

SHIPPED = books.shipped()
FILE = "policies/notices/till.yaml"


def with_words(*changes: tuple[str, str]) -> dict[str, str]:
    text = NOTICES
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return {**TOLD, FILE: text}


WRONG = [
    ("for: [till]", "for: [tell]", "there is no policy 'tell'", "did you mean 'till'?"),
    ("  decline:\n    title", "  declien:\n    title", "has the verdict 'declien'", "did you mean 'decline'?"),
    ("  hold: {en", "  holt: {en", "has the action 'holt'", "did you mean 'hold'?"),
    ("[odd_amount]", "[odd_amonut]", "nothing finds the signal 'odd_amonut'", "did you mean 'odd_amount'?"),
    ("documents: [identity]", "documents: [idenity]", "no file says what the document 'idenity' is", "'identity'"),
    ("  amount: {less", "  amuont: {less", "there is no field 'amuont'", "did you mean 'amount'?"),
    ("The amount is odd.", "From 40 CNY on it is odd.", "a person is told no number", "in words"),
    ("The amount is odd.", "It is odd_amount.", "a person is not told 'odd_amount': it is a name of ours", "means"),
    ("The amount is odd.", "See small.challenge there.", "a person is not told 'small.challenge'", "means"),
    ("The amount is odd.", "It is on bad-bins.", "a person is not told 'bad-bins'", "means"),
    ("The amount is odd.", '"{amount} is odd."', "this text cannot show '{amount}'", "it can show nothing"),
    ("By law: {articles}.", "By law.", "this text must show '{articles}'", "where the value belongs"),
    ("fraud: true, documents", "fraud: false, documents", "its own words or 'fraud: true'", "says.fraud"),
    ("[card_testing, listed]", "[card_testing, odd_amount]", "'odd_amount' has its words already", "they are in"),
]


@pytest.mark.parametrize(("old", "new", "what", "hint"), WRONG)
def test_a_mistake_is_told_at_its_line(tmp_path: Path, old: str, new: str, what: str, hint: str) -> None:
    files = with_words((old, new))
    (problem,) = books.told(tmp_path, files)
    wrong = "odd_amount]" if "already" in what else new  # What comes second is told of.
    line = files[FILE][: files[FILE].rindex(wrong)].count("\n") + 1
    first, *_ = problem.splitlines()
    assert first.startswith(f"{FILE}:{line}:")
    assert what in first
    assert hint in problem


def test_two_files_may_not_say_the_same_of_one_policy(tmp_path: Path) -> None:
    second = "notices: more\nabout: More.\nowner: tests\nfor: [till]\nactions: {hold: {en: Held., zh: 暂扣。}}\n"
    (problem,) = books.told(tmp_path, {**TOLD, "policies/notices/z.yaml": second})
    assert "'hold' has its words already" in problem
    assert "policies/notices/till.yaml" in problem


def test_what_a_file_says_for_a_policy_goes_before_what_one_says_for_all(tmp_path: Path) -> None:
    common = (
        "notices: all\nabout: For all.\nowner: tests\nactions: {hold: {en: Kept., zh: 保留。}}\n"
        "documents: {licence: {en: a licence, zh: 许可证}}\n"
    )
    found = books.book(tmp_path, {**TOLD, "policies/notices/all.yaml": common}).wording["till"]
    assert found.actions["hold"].en == "It is held."
    assert found.documents.keys() == {"identity", "licence"}


def test_a_rulebook_without_notices_loads_as_before(tmp_path: Path) -> None:
    assert books.book(tmp_path, books.SMALL).wording == {}


def test_mistakes_of_a_policy_hide_no_words_and_cause_none(tmp_path: Path) -> None:
    broken = {**TOLD, "policies/till.yaml": TOLD["policies/till.yaml"].replace("at_least", "at_leest") + "  oops: 1\n"}
    assert all(FILE not in problem for problem in books.told(tmp_path, broken))


# What check notices


def checked(tmp_path: Path, files: dict[str, str]) -> str:
    books.write(tmp_path, files)
    found = CliRunner().invoke(
        main, ["check", "--rules", str(tmp_path / "rules"), "--policies", str(tmp_path / "policies")]
    )
    assert found.exit_code == 0, found.output
    return found.stderr


LACKING = [
    ("  decline:\n(    .*\n){2}", "no notice has words for the verdict 'decline'"),
    ("  hold: .*\n", "no notice has words for the measure 'hold'"),
    ("  expired: .*\n", "no notice has words for an appeal that ends as 'expired'"),
    ("  - {signals: .large_amount.*\n", "no notice of the policy 'till' says what the signal 'large_amount' means"),
]


@pytest.mark.parametrize(("gone", "what"), LACKING)
def test_check_notices_what_nobody_would_be_told(tmp_path: Path, gone: str, what: str) -> None:
    assert what not in checked(tmp_path / "whole", dict(TOLD))
    assert what in checked(tmp_path / "lacking", {**TOLD, FILE: re.sub(gone, "", NOTICES, count=1)})


def test_where_no_notices_are_kept_nothing_lacks(tmp_path: Path) -> None:
    assert "no notice" not in checked(tmp_path, dict(books.SMALL))


# What we ship


def adverse(policy: Policy) -> list[str]:
    return [verdict for verdict in policy.verdicts if verdict != policy.verdicts[0] or policy.measures]


@pytest.mark.parametrize("name", SHIPPED.policies)
def test_shipped_notices_have_words_for_every_verdict_measure_and_end(name: str) -> None:
    policy, words = SHIPPED.policies[name], SHIPPED.wording[name]
    assert set(adverse(policy)) <= words.verdicts.keys()
    assert set(policy.measures) <= words.actions.keys()
    assert set(ENDS) <= words.ends.keys()
    assert ANY in words.reasons
    assert set(EVENTS) <= words.reasons.keys()
    assert words.says is not None
    assert words.channel is not None
    assert policy.pack.appeal is not None


def speaking(rulebook: Rulebook) -> list[tuple[str, str]]:
    """(policy, signal) of each live rule that may count against somebody."""
    return sorted(
        {
            (book.policy.name, rule.finding.signal)
            for book in rulebook.kinds.values()
            for rule in book.rules
            if book.policy is not None
            and rule.mode == "live"
            and (rule.finding.points or rule.finding.severity != "info")
        }
    )


def test_every_live_signal_has_words_for_the_person() -> None:
    assert [pair for pair in speaking(SHIPPED) if pair[1] not in SHIPPED.wording[pair[0]].reasons] == []
