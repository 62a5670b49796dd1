"""`arbiter merchants`, and the routes behind it, against a running server of the shipped packs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from tests.serving import Served, serve_on_loopback

pytestmark = pytest.mark.service

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Desk:
    """An officer before a server."""

    served: Served
    url: str
    key: Path

    def types(self, *typed: str) -> Result:
        return CliRunner().invoke(main, ["merchants", *typed, "--server", self.url, "--key-file", str(self.key)])

    def complained_of(self, merchant: str, count: int) -> None:
        """A shop with orders, and complaints about some of them."""
        for number in range(2 * count):
            at = (NOW - timedelta(days=2, minutes=number)).isoformat()
            body = {"kind": "transaction", "event_id": f"{merchant}-t{number}", "at": at, "amount": "50.00 CNY"}
            self.sent({**body, "merchant": {"id": merchant}})
        for number in range(count):
            at = (NOW - timedelta(hours=1, minutes=number)).isoformat()
            body = {"kind": "complaint", "event_id": f"{merchant}-c{number}", "at": at}
            self.sent({**body, "merchant": {"id": merchant}, "complaint": {"reason": "service"}})

    def sent(self, body: dict[str, object]) -> None:
        answer = self.served.post("/v1/events", key="score", json=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("merchants")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.standings.SECONDS", 3600)  # Nobody is assessed behind a test's back.
        yield from served_in(folder)


def served_in(folder: Path) -> Iterator[Desk]:
    with serve_on_loopback(folder) as (served, port):
        key = folder / "officer.key"
        key.write_text(served.keys["rules"] + "\n", "utf-8")
        yield Desk(served, f"http://127.0.0.1:{port}", key)


def test_an_officer_sees_where_a_shop_stands_and_why(desk: Desk) -> None:
    desk.complained_of("m-1", 4)
    shown = desk.types("show", "m-1", "--assess")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0] == "m-1: trusted > standard > [watched]"
    assert "    watched: entered at 50, left below 30" in lines
    assert "  - 4 complaints on 8 orders in 90 days (complaints: 60)" in lines
    again = json.loads(desk.types("show", "m-1", "--json").stdout)
    assert (again["tier"], again["history"][0]["why"]) == ("watched", "request")


def test_the_merchant_sees_what_would_help_and_no_points(desk: Desk) -> None:
    desk.complained_of("m-2", 4)
    desk.types("show", "m-2", "--assess")
    shown = desk.types("show", "m-2", "--own", "--lang", "zh").stdout
    assert "投诉 4 次 (重)" in shown
    assert "请查看投诉原因" in shown
    reasons = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+", "", shown)  # A minute may be any number.
    assert all(word not in reasons for word in ("60", "50", "points", "分起"))


def test_the_history_says_how_it_came_there(desk: Desk) -> None:
    desk.complained_of("m-3", 4)
    desk.types("show", "m-3", "--assess")
    until = (NOW + timedelta(days=3)).isoformat()
    body = {"tier": "trusted", "reason": "the goods were\x1b[2J recalled", "until": until}
    assert desk.served.call("PUT", "/v1/merchants/m-3", key="person", json=body).status_code == 200
    told = desk.types("history", "m-3")
    first, *rest = told.stdout.splitlines()
    assert " watched > trusted  person  li.si" in first
    assert rest[0] == "  the goods were\ufffd[2J recalled"
    assert "- > watched  request  rules" in rest[1]
    assert "  a person has set this tier until " in desk.types("show", "m-3").stdout


def test_a_review_meets_all_merchants_of_the_ledger(desk: Desk) -> None:
    desk.complained_of("m-4", 1)
    found = json.loads(desk.types("review", "--all", "--json").stdout)
    assert (found["left"], found["new"]) >= (0, 1)
    assert desk.types("review", "--all").stdout == "0 assessments, 0 of them into another tier\n"
    assert desk.served.get("/v1/merchants/m-4", key="audit").json()["tier"] == "watched"


def test_a_shop_of_which_nothing_is_known_is_said_so(desk: Desk) -> None:
    told = desk.types("show", "m-unheard-of")
    assert told.exit_code == 1
    assert "nobody of this name was assessed yet" in told.output


def test_an_anchor_is_named_in_the_body_alone(desk: Desk) -> None:
    who = {"subject": "anchor-12"}
    assessed = desk.served.post("/v1/profiles/anchor/assessment", key="rules", json=who)
    assert (assessed.status_code, assessed.json()["tier"]) == (200, "known")
    assert "anchor-12" not in assessed.text
    own = desk.served.post("/v1/profiles/anchor/explanation", key="audit", json=who).json()
    assert own["factors"][0]["weight"] == "clear"
    tier = {**who, "tier": "strict", "reason": "a fine"}
    set_ = desk.served.call("PUT", "/v1/profiles/anchor/standing", key="person", json=tier)
    assert set_.json()["held"] == {"until": None}
    standing = desk.served.post("/v1/profiles/anchor/standing", key="audit", json=who).json()
    assert [step["why"] for step in standing["history"]] == ["person", "request"]
