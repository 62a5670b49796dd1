"""The chain of papers from the owner of a brand to the seller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EventRefused
from engine.schema import schema
from engine.schema.authorisation import STATES, chain

AT = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 1_000_000
OWNER = {"brand": "Acme", "grantor": "acme", "given_by": "owner", "grantee": "dist", "ends": "2027-06-30"}
DIST = {"brand": "Acme", "grantor": "dist", "given_by": "distributor", "grantee": "m1", "ends": "2027-03-31"}
DIRECT = {**OWNER, "grantee": "m1"}


def test_a_paper_of_the_owner_is_enough() -> None:
    found = chain([DIRECT], "m1", AT)
    assert found == ("sound", int(datetime(2027, 6, 30, 16, tzinfo=UTC).timestamp()) * 1_000_000)


def test_a_chain_holds_until_its_first_paper_ends() -> None:
    assert chain([OWNER, DIST], "m1", AT).until == int(datetime(2027, 3, 31, 16, tzinfo=UTC).timestamp()) * 1_000_000


def test_a_chain_without_an_end_has_none() -> None:
    assert chain([{**DIRECT, "ends": None}], "m1", AT) == ("sound", None)


CASES: dict[str, tuple[str, Sequence[Mapping[str, Any]]]] = {
    "owner to distributor to seller": ("sound", [OWNER, DIST]),
    "in any order": ("sound", [DIST, OWNER]),
    "no owner": ("broken", [DIST]),
    "the owner of another brand": ("broken", [{**OWNER, "brand": "Bolt"}, DIST]),
    "a paper for somebody else": ("broken", [OWNER, {**DIST, "grantee": "m2"}]),
    "distributors who only let each other": ("broken", [{**DIST, "grantee": "b"}, {**DIST, "grantor": "b"}]),
    "one brand of two": ("broken", [DIRECT, {**DIST, "brand": "Bolt"}]),
    "two brands": ("sound", [DIRECT, {**DIRECT, "brand": "Bolt"}]),
    "a last day that is today": ("sound", [{**DIRECT, "ends": "2026-11-20"}]),
    "a last day that was yesterday": ("expired", [{**DIRECT, "ends": "2026-11-19"}]),
    "a distributor's paper has ended": ("expired", [{**OWNER, "ends": "2026-11-19"}, DIST]),
    "a first day that is today": ("sound", [{**DIRECT, "begins": "2026-11-20"}]),
    "a first day that is tomorrow": ("not_yet", [{**DIRECT, "begins": "2026-11-21"}]),
    "a day that is none": ("expired", [{**DIRECT, "ends": "2027-02-31"}]),
    "the same category": ("sound", [{**OWNER, "category": "toys"}, {**DIST, "category": "toys"}]),
    "a part of all categories": ("sound", [OWNER, {**DIST, "category": "toys"}]),
    "all categories of one": ("wider", [{**OWNER, "category": "toys"}, DIST]),
    "another category": ("wider", [{**OWNER, "category": "toys"}, {**DIST, "category": "food"}]),
    "another country": ("wider", [{**OWNER, "country": "CN"}, {**DIST, "country": "US"}]),
    "a second way that is sound": ("sound", [{**OWNER, "ends": "2026-11-19"}, DIST, {**OWNER, "ends": "2028-01-01"}]),
    "an old paper beside the new one": ("sound", [{**DIRECT, "ends": "2026-01-01"}, DIRECT]),
    "an old paper of another category": ("expired", [DIRECT, {**DIRECT, "category": "toys", "ends": "2026-01-01"}]),
    "wider and ended: the worse": ("expired", [{**OWNER, "category": "toys"}, {**DIST, "ends": "2026-01-01"}]),
    "papers that say nothing": ("broken", [{}, {"brand": "Acme"}]),
}


@pytest.mark.parametrize(("state", "papers"), CASES.values(), ids=list(CASES))
def test_papers(state: str, papers: Sequence[Mapping[str, Any]]) -> None:
    assert chain(papers, "m1", AT).state == state


def test_without_a_seller_nobody_is_let_sell() -> None:
    assert chain([{**DIRECT, "grantee": None}], None, AT).state == "broken"


@st.composite
def papers(draw: st.DrawFn) -> list[dict[str, Any]]:
    who = st.sampled_from(("a", "b", "c", "m1"))
    days = st.sampled_from(("2026-11-19", "2026-11-20", "2026-11-21", None))
    one = st.fixed_dictionaries(
        {
            "brand": st.just("Acme"),
            "grantor": who,
            "grantee": who,
            "given_by": st.sampled_from(("owner", "distributor")),
            "category": st.sampled_from(("toys", "food", None)),
            "begins": days,
            "ends": days,
        }
    )
    return draw(st.lists(one, min_size=1, max_size=5))


@given(papers())
def test_it_says_what_trying_every_way_says(shown: list[dict[str, Any]]) -> None:
    assert chain(shown, "m1", AT).state == by_trying(shown)


def by_trying(shown: list[dict[str, Any]]) -> str:
    """The same by looking at every way without a paper twice."""
    wanted: dict[Any, int] = {}
    for paper in shown:
        if paper["grantee"] == "m1":
            ways = [rank_of(way) for way in ways_to(paper, shown)]
            found = min(ways, default=STATES.index("broken"))
            wanted[paper["category"]] = min(found, wanted.get(paper["category"], found))
    return STATES[max(wanted.values(), default=STATES.index("broken"))]


def ways_to(paper: dict[str, Any], shown: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    if paper["given_by"] == "owner":
        yield [paper]
    rest = [other for other in shown if other is not paper]
    for other in rest:
        if other["grantee"] == paper["grantor"]:
            yield from ([*way, paper] for way in ways_to(other, rest))


def rank_of(way: list[dict[str, Any]]) -> int:
    faults = {"sound"}
    faults |= {"expired" for paper in way if paper["ends"] and paper["ends"] < "2026-11-20"}
    faults |= {"not_yet" for paper in way if paper["begins"] and paper["begins"] > "2026-11-20"}
    faults |= {"wider" for up, down in pairwise(way) if up["category"] not in (None, down["category"])}
    return max(map(STATES.index, faults))


def merchant(**more: Any) -> dict[str, Any]:
    return {**schema().sample("merchant"), "merchant": {"id": "m1", **more}}


def build(**more: Any) -> dict[str, Any]:
    event = schema().build(merchant(**more), received_at=AT, kind="merchant", tenant="t")
    found: dict[str, Any] = event.values["merchant"]
    return found


def test_an_event_says_how_its_papers_stand() -> None:
    assert build(authorisations=[DIRECT])["authorisation"] == "sound"
    assert build(authorisations=[DIST])["authorisation"] == "broken"
    assert "authorised_until" not in build(authorisations=[DIST])


def test_what_arbiter_derives_is_not_taken_beside_it() -> None:
    assert build(authorisation="sound")["authorisation"] == "sound"
    with pytest.raises(EventRefused, match="Arbiter derives it"):
        build(authorisations=[DIRECT], authorisation="sound")
