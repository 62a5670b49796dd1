"""Exceptions: whom they may be for, how long, and what they can never reach."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import PackError
from engine.exemptions import Exemptions, Hit, read_exemptions
from engine.packs import parse
from engine.packs.moments import end_of, start_of
from engine.schema import schema
from engine.verdict import Finding

FIELDS = schema().fields("transaction")
BURST = Finding("card-testing.burst", "card_testing", "high", 45)
SLOW = Finding("card-testing.slow", "card_testing", "low", 10)
GEO = Finding("geo.far", "geo_mismatch", "medium", 20)
LISTED = Finding("sanctions.party", "sanctions_hit", "critical", 100, hard=True)
LAW = Finding("customs.payer", "customs_mismatch", "high", 50)
ALL = (BURST, SLOW, GEO, LISTED, LAW)

GOOD = {
    "id": "lab",
    "rule": "card-testing.burst",
    "subject": "{buyer.account: u-8841}",
    "owner": "payments-risk",
    "reason": "our own laboratory",
    "from": "2026-11-01",
    "expires": "2027-01-29",
    "approved_by": "compliance-lead",
}
NOW = start_of("2026-11-20")
EVENT = {"buyer": {"account": "u-8841", "email": "Lab@Example.com"}, "merchant": {"id": "m-17"}}


def written(*changes: dict[str, str | None]) -> str:
    """A file with one exception for each change of the good one; None leaves a key out."""
    lines = ["exceptions:"]
    for change in changes or ({},):
        shown = [f"{key}: {value}" for key, value in {**GOOD, **change}.items() if value is not None]
        lines += ["  - " + shown[0], *("    " + line for line in shown[1:])]
    return "\n".join(lines) + "\n"


def exemptions(*changes: dict[str, str | None]) -> Exemptions:
    return read_exemptions([parse(written(*changes))], ALL, FIELDS, {"customs_mismatch"})


def applied(found: Exemptions, **changes: Any) -> tuple[list[str], list[tuple[str, str]]]:
    given: dict[str, Any] = {"tenant": "shop", "keys": {"buyer.account": "3fa9"}, "values": EVENT, "at": NOW}
    kept, hits = found.applies(ALL, **{**given, **changes})
    return [finding.rule for finding in ALL if finding not in kept], [(hit.rule, hit.exemption) for hit in hits]


def test_a_rule_is_exempted_for_its_subject_and_recorded() -> None:
    """Only that finding goes, and the record says by which exception."""
    assert applied(exemptions()) == (["card-testing.burst"], [("card-testing.burst", "lab")])


def test_a_signal_covers_all_rules_that_give_it() -> None:
    """Each of them is a hit of its own."""
    gone, hits = applied(exemptions({"rule": None, "signal": "card_testing"}))

    assert gone == ["card-testing.burst", "card-testing.slow"]
    assert hits == [("card-testing.burst", "lab"), ("card-testing.slow", "lab")]


def test_two_exceptions_for_one_finding_are_both_recorded() -> None:
    """Neither hides the other."""
    found = exemptions({}, {"id": "lab-2", "rule": None, "signal": "card_testing"})

    assert [hit for hit in applied(found)[1] if hit[0] == "card-testing.burst"] == [
        ("card-testing.burst", "lab"),
        ("card-testing.burst", "lab-2"),
    ]


@pytest.mark.parametrize(
    ("subject", "event", "meets"),
    [
        ("{buyer.account: u-8841}", EVENT, True),
        ("{buyer.account: u-8842}", EVENT, False),
        ("{buyer.email: lab@example.COM}", EVENT, True),
        ("{merchant.id: m-17}", EVENT, True),
        ("{merchant.id: m-17, buyer.account: u-8841}", EVENT, True),
        ("{merchant.id: m-18, buyer.account: u-8841}", EVENT, False),
        ("{buyer.account: 'pseudonym:3fa9'}", EVENT, True),
        ("{buyer.account: 'pseudonym:3fa8'}", EVENT, False),
        ("{buyer.account: u-8841}", {}, False),
        ("{buyer.account: u-8841}", {"buyer": None}, False),
        ("{card.ref: 'pseudonym:3fa9'}", EVENT, False),
    ],
)
def test_every_part_of_the_subject_must_be_so(subject: str, event: dict[str, Any], meets: bool) -> None:
    """Values in normal form, or pseudonyms; a missing field is nobody."""
    gone, _ = applied(exemptions({"subject": subject}), values=event)

    assert bool(gone) is meets


@pytest.mark.parametrize(
    ("at", "meets"),
    [
        (start_of("2026-11-01") - 1, False),
        (start_of("2026-11-01"), True),
        (end_of("2027-01-29") - 1, True),
        (end_of("2027-01-29"), False),
    ],
)
def test_it_holds_from_its_first_day_to_the_end_of_its_last(at: int, meets: bool) -> None:
    """Seen from the time an event was received, Beijing days."""
    assert bool(applied(exemptions(), at=at)[0]) is meets


def test_it_may_be_for_one_tenant() -> None:
    """Account ids of two shops may be the same."""
    found = exemptions({"tenant": "shop"})

    assert applied(found)[0]
    assert not applied(found, tenant="other")[0]


def test_hard_findings_stay_whatever_the_files_say() -> None:
    """A rule that becomes hard after the check is out of reach too."""
    found = exemptions({"rule": None, "signal": "geo_mismatch"})
    hard = Finding("geo.far", "geo_mismatch", hard=True)

    assert found.applies((hard,), tenant="shop", keys={}, values=EVENT, at=NOW) == ((hard,), ())


def test_without_exceptions_or_findings_nothing_happens() -> None:
    """The usual case costs nothing."""
    assert Exemptions().applies(ALL, tenant="shop", keys={}, values={}, at=NOW) == (ALL, ())
    assert exemptions().applies((), tenant="shop", keys={}, values={}, at=NOW) == ((), ())


def test_expired_ones_are_named() -> None:
    """So that a check can ask to delete them."""
    found = exemptions()

    assert found.expired(end_of("2027-01-29") - 1) == ()
    assert [item.id for item in found.expired(end_of("2027-01-29"))] == ["lab"]


REFUSED: tuple[tuple[dict[str, str | None], list[str]], ...] = (
    ({"expires": "2027-01-30"}, ["8:14: an exception lasts 90 days at most"]),
    ({"expires": "2027-01-30T00:00:00.000001+08:00"}, ["8:14: an exception lasts 90 days at most"]),
    ({"expires": "2026-10-01"}, ["8:14: it ends before it begins"]),
    ({"expires": None}, ["2:5: 'expires' is missing"]),
    ({"expires": "never"}, ["8:14: write a day such as 2027-01-31"]),
    ({"approved_by": None}, ["2:5: 'approved_by' is missing"]),
    ({"approved_by": "' Payments-Risk '"}, ["9:18: the owner cannot approve the exception alone"]),
    ({"rule": "card-testing.brst"}, ["3:11: there is no rule 'card-testing.brst'"]),
    ({"rule": None}, ["2:5: an exception is from one rule or from one signal"]),
    ({"signal": "card_testing"}, ["2:5: an exception is from one rule or from one signal"]),
    ({"rule": "sanctions.party"}, ["3:11: sanctions.party is hard: nothing softens it"]),
    ({"rule": None, "signal": "sanctions_hit"}, ["9:13: sanctions.party is hard: nothing softens it"]),
    ({"rule": "customs.payer"}, ["3:11: a mandatory clause rests on the signal customs_mismatch"]),
    ({"rule": None, "signal": "customs_mismatch"}, ["9:13: a mandatory clause rests on"]),
    ({"subject": "{}"}, ["4:14: must not be empty"]),
    ({"subject": "{buyer.acount: u-1}"}, ["4:15: there is no field 'buyer.acount'"]),
    ({"subject": "{amount: u-1}"}, ["4:15: 'amount' does not say who it is"]),
    ({"subject": "{buyer.account: 8841}"}, ["4:30: a subject is text"]),
    ({"subject": "{ip: somewhere}"}, ["4:19: this is no ip"]),
    ({"subject": "{buyer.account: ''}"}, ["4:30: this is no buyer.account"]),
    ({"subject": "{merchant.id: 'pseudonym:3f'}"}, ["4:28: this is no merchant.id"]),
    ({"id": "Lab 1"}, ["2:9: write small letters, digits"]),
    ({"why": "x"}, ["10:5: unknown key 'why'"]),
)


@pytest.mark.parametrize(
    ("since", "until", "latest"),
    [
        ("2026-11-01", "2027-01-29", None),
        ("2026-11-01", "2027-01-30T00:00:00+08:00", None),
        ("2026-11-01T12:00:00+08:00", "2027-01-30T12:00:00+08:00", None),
        ("2026-11-01T12:00:00+08:00", "2027-01-29", None),
        ("2026-11-01", "2027-01-30", "2027-01-29"),
        ("2026-11-01", "2027-01-30T00:00:01+08:00", "2027-01-29"),
        ("2026-11-01T12:00:00+08:00", "2027-01-30T12:00:01+08:00", "2027-01-29"),
    ],
)
def test_ninety_days_are_90_times_24_hours_for_days_and_instants(since: str, until: str, latest: str | None) -> None:
    """The last day is held to its end, and so counts whole."""
    document = parse(written({"from": since, "expires": until}))
    hints = []
    try:
        read_exemptions([document], ALL, FIELDS)
    except PackError as error:
        hints = [problem.hint for problem in error.problems]

    assert hints == ([f"the last day can be {latest}; decide again when it comes"] if latest else [])


@pytest.mark.parametrize(("change", "expected"), REFUSED)
def test_a_bad_exception_is_refused_with_its_place(change: dict[str, str | None], expected: list[str]) -> None:
    """The file is checked against the rules, the policies and the fields."""
    with pytest.raises(PackError) as caught:
        exemptions(change)
    found = [str(problem).removeprefix("<text>:") for problem in caught.value.problems]

    assert [shown[: len(begin)] for shown, begin in zip(found, expected, strict=True)] == expected


def test_ids_are_unique_across_files_and_problems_come_together() -> None:
    """A record that names an exception names one."""
    documents = [parse(written(), "a.yaml"), parse(written({}, {"id": "x", "rule": "no.such"}), "b.yaml")]
    with pytest.raises(PackError) as caught:
        read_exemptions(documents, ALL, FIELDS)

    assert [str(problem) for problem in caught.value.problems] == [
        "b.yaml:2:9: there are two exceptions 'lab'",
        "b.yaml:11:11: there is no rule 'no.such'",
    ]


def test_a_hit_is_a_value() -> None:
    """It goes into the record as it is."""
    assert Hit("a.b", "lab") == Hit(rule="a.b", exemption="lab")
