"""The API over a real engine on SQLite with the shipped packs, in process."""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from api import Limits, create_app, samples, wire
from api.problems import TABLE, URN
from engine import merkle
from engine.assembly import Settings
from engine.errors import Unavailable
from engine.notes import Checkpoint, open_note, read_hashes, read_key, read_proof
from engine.vault import KeyFile
from engine.warmth import Warmth
from tests.books import SMALL, ready, write
from tests.serving import Served, serve_in_process

ROOT = Path(__file__).parent.parent
SAMPLES = sorted((ROOT / "docs" / "examples").glob("*.json"))
PERSONAL = ("张三", "13800138000", "zhangsan@example.com", "文三路")

_numbers = count(1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the tests that leave no trace others could meet."""
    with serve_in_process(tmp_path_factory.mktemp("api")) as served:
        yield served


def order(**changes: Any) -> dict[str, Any]:
    """The sample order under an event id of its own."""
    sample: dict[str, Any] = json.loads((ROOT / "docs" / "examples" / "order.json").read_bytes())
    return sample | {"event_id": f"ev-api-{next(_numbers)}"} | changes


async def pieces(parts: list[bytes]) -> AsyncIterator[bytes]:
    """A body that does not say its length."""
    for part in parts:
        yield part


def check_problem(response: httpx.Response, code: str) -> dict[str, Any]:
    """The problem in a response, which must be of that code in every respect."""
    problem: dict[str, Any] = response.json()
    status, title = TABLE[code]
    assert (response.status_code, problem["type"]) == (status, URN + code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["title"]) == (status, title)
    wire.Problem.model_validate(problem)
    return problem


# -- verdicts


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_each_sample_body_is_judged_as_it_is(served: Served, path: Path) -> None:
    response = served.post("/v1/decisions", content=path.read_bytes(), key="score")

    assert response.status_code == 200, response.text
    decision = wire.Decision.model_validate(response.json())
    assert decision.event_id == json.loads(path.read_bytes())["event_id"]
    assert response.headers["content-type"] == "application/json"


def test_the_same_event_gets_the_same_answer_byte_for_byte(served: Served) -> None:
    body = order()

    first, second = (served.post("/v1/decisions", json=body, key="score") for _ in range(2))
    assert first.status_code == 200
    assert first.content == second.content


def test_the_same_id_with_another_body_is_a_conflict(served: Served) -> None:
    body = order()
    served.post("/v1/decisions", json=body, key="score")

    check_problem(served.post("/v1/decisions", json=body | {"amount": "1.00 CNY"}, key="score"), "conflict")


def test_parallel_calls_with_one_event_get_one_verdict(served: Served) -> None:
    body, answers = order(), []

    def call() -> None:
        answers.append(served.post("/v1/decisions", json=body, key="score").content)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1


def test_another_tenant_in_the_body_is_refused(served: Served) -> None:
    check_problem(served.post("/v1/decisions", json=order(tenant="somebody-else"), key="score"), "event_invalid")


def test_the_deadline_reaches_the_engine(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, decide = [], type(served.arbiter).decide

    async def watched(*args: Any, deadline_ms: int | None) -> bytes:
        seen.append(deadline_ms)
        return await decide(*args, deadline_ms=deadline_ms)

    monkeypatch.setattr(type(served.arbiter), "decide", watched)
    for headers in ({}, {"Arbiter-Deadline-Ms": "60000"}):
        response = served.post("/v1/decisions", json=order(), key="score", headers=headers)
        assert "deadline" not in response.json()["degraded"]
    assert seen == [None, 60000]


def test_an_event_that_was_recorded_without_a_verdict_gets_none_later(served: Served) -> None:
    body = order()
    served.post("/v1/events", json=body, key="score")

    check_problem(served.post("/v1/decisions", json=body, key="score"), "conflict")


def test_what_no_policy_judges_is_refused(served: Served) -> None:
    event = order()
    served.post("/v1/decisions", json=event, key="score")
    outcome = {
        "kind": "outcome",
        "event_id": f"out-{next(_numbers)}",
        "at": "2026-11-20T08:30:00+08:00",
        "outcome": {"refers_to": event["event_id"], "result": "chargeback"},
    }

    problem = check_problem(served.post("/v1/decisions", json=outcome, key="score"), "event_invalid")
    assert problem["errors"][0]["what"].startswith("no policy judges an outcome; judged are: ")


# -- refusals


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/decisions", "score"),
        ("POST", "/v1/decisions/batch", "score"),
        ("GET", "/v1/decisions", "audit"),
        ("GET", "/v1/decisions/some-id", "audit"),
        ("GET", "/v1/decisions/some-id/explanation", "audit"),
        ("GET", "/v1/decisions/some-id/proof", "score or audit"),
        ("GET", "/v1/log", "audit or admin"),
        ("GET", "/v1/log/consistency?old=1&new=1", ""),
        ("POST", "/v1/decisions/some-id/resolution", "outcome"),
        ("GET", "/v1/decisions/some-id/notice", "outcome or audit"),
        ("POST", "/v1/decisions/some-id/notice", "outcome"),
        ("GET", "/v1/decisions/some-id/appeals", "outcome or audit"),
        ("POST", "/v1/decisions/some-id/appeals", "outcome"),
        ("POST", "/v1/decisions/some-id/appeals/1", "outcome"),
        ("GET", "/v1/appeals", "outcome or audit"),
        ("POST", "/v1/events", "score or outcome"),
        ("GET", "/v1/lists", "rules or audit"),
        ("GET", "/v1/lists/some/entries", "rules or audit"),
        ("POST", "/v1/lists/some/entries", "rules"),
        ("POST", "/v1/lists/some/entries/1/approval", "rules"),
        ("DELETE", "/v1/lists/some/entries/1", "rules"),
        ("DELETE", "/v1/lists/some/entries/1/approval", "rules"),
        ("GET", "/v1/merchants/m-1", "rules or audit"),
        ("PUT", "/v1/merchants/m-1", "rules"),
        ("GET", "/v1/merchants/m-1/explanation", "rules or audit"),
        ("POST", "/v1/merchants/m-1/assessment", "rules"),
        ("POST", "/v1/merchants/reviews", "rules"),
        ("POST", "/v1/profiles/some/standing", "rules or audit"),
        ("PUT", "/v1/profiles/some/standing", "rules"),
        ("POST", "/v1/profiles/some/explanation", "rules or audit"),
        ("POST", "/v1/profiles/some/assessment", "rules"),
        ("GET", "/v1/rulebook", ""),
        ("GET", "/v1/law/some", ""),
        ("GET", "/v1/alerts", "rules or audit"),
        ("GET", "/v1/experiments", "rules or audit"),
        ("POST", "/v1/rulebook/reload", "admin"),
        ("GET", "/v1/rulebook/files", "author or approve or deploy or audit"),
        ("GET", "/v1/rulebook/proposals", "author or approve or deploy or audit"),
        ("POST", "/v1/rulebook/proposals", "author"),
        ("GET", "/v1/rulebook/proposals/some-id", "author or approve or deploy or audit"),
        ("POST", "/v1/rulebook/proposals/some-id/approval", "approve"),
        ("POST", "/v1/rulebook/proposals/some-id/rejection", "approve or author"),
        ("POST", "/v1/rulebook/proposals/some-id/activation", "deploy"),
        ("POST", "/v1/rulebook/rollback", "deploy"),
        ("POST", "/v1/erasures", "admin"),
        ("GET", "/v1/modes", "deploy or incident or rules or audit"),
        ("GET", "/v1/playbooks", "deploy or incident or rules or audit"),
        ("GET", "/v1/playbooks/some", "deploy or incident or rules or audit"),
        ("GET", "/v1/incidents", "deploy or incident or rules or audit"),
        ("POST", "/v1/incidents", "incident"),
        ("GET", "/v1/incidents/some", "deploy or incident or rules or audit"),
        ("POST", "/v1/incidents/some/steps/1", "incident"),
        ("POST", "/v1/incidents/some/close", "incident"),
        ("POST", "/v1/webhooks/opinion", "opinion"),
        ("POST", "/v1/images", "score"),
        ("POST", "/v1/images/fetch", "score"),
        ("GET", "/v1/images/some", "score or rules or audit"),
        ("GET", "/v1/images/references", "rules or audit"),
        ("POST", "/v1/images/references", "rules"),
        ("DELETE", "/v1/images/references/some", "rules"),
        ("POST", "/v1/images/references/some/approval", "rules"),
        ("DELETE", "/v1/images/references/some/approval", "rules"),
        ("POST", "/v1/modes/some", "deploy"),
        ("POST", "/v1/modes/some/end", "deploy"),
    ],
)
def test_every_route_asks_for_a_key_and_its_scope(served: Served, method: str, path: str, scope: str) -> None:
    nobody = served.call(method, path)
    check_problem(nobody, "unauthenticated")
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    check_problem(served.call(method, path, headers={"authorization": "Bearer arb_wrong"}), "unauthenticated")
    if scope:
        problem = check_problem(served.call(method, path, key="reveal"), "scope_missing")
        assert problem["detail"] == f"This needs a key with the scope {scope}."


def test_every_guarded_route_is_in_the_table_above(served: Served) -> None:
    document = served.get("/openapi.json").json()
    guarded = {
        (method.upper(), re.sub(r"\{\w+\}", "X", path))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
    }
    table = test_every_route_asks_for_a_key_and_its_scope.pytestmark[0].args[1]
    tried = {
        (method, re.sub(r"/(some-id|some|1|m-1)(?=/|$)", "/X", path.partition("?")[0])) for method, path, _ in table
    }

    assert tried == guarded


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b'{"kind":"nonsense"}', b"1e999"]
)
def test_a_body_that_is_no_event_is_refused_with_its_reasons(served: Served, body: bytes) -> None:
    problem = check_problem(served.post("/v1/decisions", content=body, key="score"), "event_invalid")

    assert problem["errors"]


def test_all_reasons_come_at_once_and_without_the_values(served: Served) -> None:
    body = order(amount="lots of SECRETVALUE", channel="SECRETCHANNEL", undeclared={"SECRETKEY": 1})
    response = served.post("/v1/decisions", json=body, key="score")

    problem = check_problem(response, "event_invalid")
    assert {"amount", "channel"} <= {each["path"] for each in problem["errors"]}
    assert "SECRETVALUE" not in response.text
    assert "SECRETCHANNEL" not in response.text


def test_a_card_number_is_refused_and_never_repeated(served: Served) -> None:
    response = served.post("/v1/decisions", json=order(items=[{"title": "4111 1111 1111 1111"}]), key="score")

    check_problem(response, "event_invalid")
    assert "1111" not in response.text
    assert "4111 1111" not in served.log()  # four digits alone may stand in a time


@pytest.mark.parametrize("value", ["0", "-1", "soon", "60001", "1.5", "9" * 30])
def test_a_deadline_that_makes_no_sense_is_refused(served: Served, value: str) -> None:
    response = served.post("/v1/decisions", json=order(), key="score", headers={"Arbiter-Deadline-Ms": value})

    check_problem(response, "request_invalid")


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_another_content_type_is_refused(served: Served, media_type: str) -> None:
    for path, key in (("/v1/decisions", "score"), ("/v1/events", "score"), ("/v1/decisions/batch", "score")):
        response = served.call("POST", path, key=key, content=b"{}", headers={"content-type": media_type})
        check_problem(response, "media_type_unsupported")


def test_a_body_over_the_limit_is_refused_whether_it_says_its_length_or_not(served: Served) -> None:
    big = b" " * (Limits().event_bytes + 1)

    check_problem(served.post("/v1/decisions", content=big, key="score"), "too_large")
    check_problem(served.post("/v1/decisions", content=pieces([big[:1000]] * 70), key="score"), "too_large")
    lie = served.post("/v1/decisions", content=b"{}", key="score", headers={"content-length": "1x"})
    check_problem(lie, "too_large")


def test_deep_nesting_is_refused(served: Served) -> None:
    body = b'{"kind":"transaction","buyer":' + b'{"a":' * 5000 + b"1" + b"}" * 5001

    check_problem(served.post("/v1/decisions", content=body, key="score"), "event_invalid")


def test_unknown_addresses_and_methods_are_problems_too(served: Served) -> None:
    check_problem(served.get("/v1/nothing"), "not_found")
    check_problem(served.get("/v1/decisions/"), "not_found")
    refused = served.call("DELETE", "/v1/decisions")
    check_problem(refused, "method_not_allowed")
    assert refused.headers["allow"] == "GET, POST"


IN_A_URL = "write 2026-11-25T00:00:00+08:00; in a URL write %2B for +"


@pytest.mark.parametrize(
    ("query", "path", "code", "what"),
    [
        ("limit=0", "query.limit", "out_of_range", "at least 1"),
        ("limit=501", "query.limit", "out_of_range", "at most 200"),
        ("limit=SECRET", "query.limit", "wrong_type", "a whole number is needed"),
        (f"limit={'9' * 5000}", "query.limit", "wrong_type", "a whole number is needed"),
        ("since=SECRET", "query.since", "bad_instant", "not an ISO 8601 instant with a zone"),
        ("since=2026-11-20", "query.since", "bad_instant", "not an ISO 8601 instant with a zone"),
        ("since=2026-11-20T08:30:00", "query.since", "bad_instant", "the zone is missing"),
        ("until=2026-11-20T08:30:00+08:00", "query.until", "bad_instant", "not an ISO 8601 instant with a zone"),
        ("until=2026-02-30T08:30:00Z", "query.until", "bad_instant", "there is no such date or time"),
        ("verdict=", "query.verdict", "too_short", "at least 1 characters"),
        ("kind=%00", "query.kind", "bad_format", "must be without control characters"),
        (f"order_id={'x' * 201}", "query.order_id", "too_long", "at most 200 characters"),
        (
            "verdict=SECRET",
            "query.verdict",
            "not_a_choice",
            "no policy in force has this verdict, and it was never given",
        ),
        ("kind=SECRET", "query.kind", "not_a_choice", "there is no such kind of event"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_by_name(
    served: Served, query: str, path: str, code: str, what: str
) -> None:
    response = served.get(f"/v1/decisions?{query}", key="audit")
    (error,) = check_problem(response, "request_invalid")["errors"]

    assert (error["path"], error["code"], error["what"]) == (path, code, what)
    assert code != "bad_instant" or error["hint"] == IN_A_URL
    assert "SECRET" not in response.text


def test_an_address_that_makes_no_sense_is_refused_in_our_words(served: Served) -> None:
    (error,) = check_problem(served.get(f"/v1/decisions/{'x' * 201}", key="audit"), "request_invalid")["errors"]

    assert (error["path"], error["code"]) == ("path.decision_id", "too_long")


def test_a_filter_that_names_what_is_not_there_says_what_is(served: Served) -> None:
    response = served.get("/v1/decisions?verdict=declined&kind=transactions", key="audit")
    errors = {each["path"]: each for each in check_problem(response, "request_invalid")["errors"]}

    assert set(errors) == {"query.verdict", "query.kind"}
    assert errors["query.verdict"]["hint"].startswith(
        "did you mean 'decline'?; one of approve, challenge, review, decl"
    )
    assert errors["query.kind"]["hint"].startswith("did you mean 'transaction'?; one of ")


def test_a_cursor_that_is_not_ours_is_refused(served: Served) -> None:
    check_problem(served.get("/v1/decisions?cursor=SECRET", key="audit"), "request_invalid")


def test_a_key_that_asks_too_fast_is_told_when_to_come_back(tmp_path: Path) -> None:
    with serve_in_process(tmp_path, limits=Limits(rate_per_key=1, burst_per_key=2)) as served:
        answers = [served.get("/v1/rulebook", key="score") for _ in range(3)]
        other = served.get("/v1/rulebook", key="audit")

    assert [each.status_code for each in answers] == [200, 200, 429]
    check_problem(answers[2], "too_many_requests")
    assert int(answers[2].headers["retry-after"]) >= 1
    assert other.status_code == 200


# -- our own mistakes


class SecretError(Exception):
    """An error that quotes what a caller sent."""


def test_our_own_mistake_is_an_incident_that_tells_the_caller_and_the_log_no_secrets(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(body: bytes, *_: Any, **__: Any) -> bytes:
        try:
            raise KeyError(body.decode())
        except KeyError as error:
            raise SecretError(body.decode()) from error

    monkeypatch.setattr(type(served.arbiter), "decide", lambda _, body, caller, **more: broken(body))
    response = served.post("/v1/decisions", json=order(), key="score")

    problem = check_problem(response, "internal")
    (incident,) = [line for line in served.lines() if line.get("request") == problem["incident"]]
    assert (incident["error"], incident["cause"]["error"]) == ("SecretError", "KeyError")
    assert any("broken" in frame for frame in incident["frames"])
    for text in (response.text, served.log()):
        assert not [value for value in PERSONAL if value in text]
        assert "Traceback" not in text


def test_our_own_mistake_in_an_ordinary_route_is_an_incident_too(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(served.arbiter), "rulebook_info", lambda _: 1 // 0)

    check_problem(served.get("/v1/rulebook", key="score"), "internal")


def test_a_verdict_that_may_not_be_recorded_is_503_and_safe_to_retry(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any, **__: Any) -> bytes:
        raise Unavailable("The commit was not acknowledged.", code="verdict_unknown", retry_after=2)

    monkeypatch.setattr(type(served.arbiter), "decide", lost)
    response = served.post("/v1/decisions", json=order(), key="score")

    check_problem(response, "verdict_unknown")
    assert response.headers["retry-after"] == "2"


# -- reading


def test_a_decision_can_be_found_read_and_explained(served: Served) -> None:
    body = order(order_id=f"or-{next(_numbers)}")
    decided = served.post("/v1/decisions", json=body, key="score").json()

    page = served.get(f"/v1/decisions?order_id={body['order_id']}", key="audit").json()
    assert [item["id"] for item in page["items"]] == [decided["id"]]
    assert page["next"] is None
    wire.DecisionPage.model_validate(page)
    recorded = served.get(f"/v1/decisions/{decided['id']}", key="audit")
    assert recorded.status_code == 200
    assert not [value for value in PERSONAL if value in recorded.text]
    explanation = served.get(f"/v1/decisions/{decided['id']}/explanation", key="audit")
    assert explanation.status_code == 200, explanation.text


def test_a_decision_is_found_by_its_event_id(served: Served) -> None:
    body = order()
    decided = served.post("/v1/decisions", json=body, key="score").json()
    noted = order()
    served.post("/v1/events", json=noted, key="score")
    other = served.loop.run(served.arbiter.create_key("other", "service", "shop-b", ["audit"]))

    def found(event_id: str, **more: Any) -> list[str]:
        return [each["id"] for each in served.get(f"/v1/decisions?event_id={event_id}", **more).json()["items"]]

    assert found(body["event_id"], key="audit") == [decided["id"]]
    assert found(noted["event_id"], key="audit") == []
    assert found(body["event_id"], headers={"authorization": f"Bearer {other}"}) == []


def test_pages_follow_each_other_without_gaps(served: Served) -> None:
    same = f"or-{next(_numbers)}"
    made = [served.post("/v1/decisions", json=order(order_id=same), key="score").json()["id"] for _ in range(5)]

    found, cursor = [], ""
    while True:
        query = f"order_id={same}&limit=2" + (f"&cursor={cursor}" if cursor else "")
        page = served.get(f"/v1/decisions?{query}", key="audit").json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if not cursor:
            break
    assert sorted(found) == sorted(made)


def test_times_filter_what_is_listed(served: Served) -> None:
    served.post("/v1/decisions", json=order(), key="score")

    assert served.get("/v1/decisions?since=2000-01-01T00:00:00Z", key="audit").json()["items"]
    assert not served.get("/v1/decisions?until=2000-01-01T00:00:00Z", key="audit").json()["items"]


@pytest.mark.parametrize("path", ["", "/explanation"])
def test_an_id_that_is_not_there_is_not_found(served: Served, path: str) -> None:
    check_problem(served.get(f"/v1/decisions/no-such-id{path}", key="audit"), "not_found")


# -- events, resolutions


def test_an_event_without_a_verdict_is_recorded(served: Served) -> None:
    response = served.post("/v1/events", json=order(), key="score")

    assert response.status_code == 200, response.text
    wire.Recorded.model_validate(response.json())


def test_an_outcome_needs_its_own_scope(served: Served) -> None:
    decided = order()
    served.post("/v1/decisions", json=decided, key="score")
    outcome = {
        "kind": "outcome",
        "event_id": f"out-{next(_numbers)}",
        "at": decided["at"],
        "outcome": {"refers_to": decided["event_id"], "result": "chargeback"},
    }

    check_problem(served.post("/v1/events", json=outcome, key="score"), "scope_missing")
    check_problem(served.post("/v1/events", json=order(), key="outcome"), "scope_missing")
    response = served.post("/v1/events", json=outcome, key="outcome")
    assert response.status_code == 200, response.text


def test_what_was_really_done_is_recorded_as_a_new_entry(served: Served) -> None:
    decided = served.post("/v1/decisions", json=order(), key="score").json()
    path = f"/v1/decisions/{decided['id']}/resolution"
    response = served.post(path, json={"what": "enforced", "result": "captured"}, key="outcome")

    assert response.status_code == 200, response.text
    assert response.json()["record"]["refers_to"] == decided["id"]


def test_a_resolution_that_makes_no_sense_is_refused(served: Served) -> None:
    decided = served.post("/v1/decisions", json=order(), key="score").json()
    for body in ({}, {"what": "SECRET"}, {"what": "enforced", "result": "SECRET"}, [], "x"):
        response = served.post(f"/v1/decisions/{decided['id']}/resolution", json=body, key="outcome")
        assert response.status_code in (400, 422), response.text
        assert "SECRET" not in response.text
    check_problem(
        served.post("/v1/decisions/none/resolution", json={"what": "enforced", "result": "captured"}, key="outcome"),
        "not_found",
    )


# -- rulebook, merchants, lists, health


def test_the_rulebook_says_its_hash_and_can_be_read_again(served: Served) -> None:
    before = served.get("/v1/rulebook", key="score").json()
    reloaded = served.call("POST", "/v1/rulebook/reload", key="admin")

    assert reloaded.status_code == 200, reloaded.text
    assert served.get("/v1/rulebook", key="score").json()["hash"] == before["hash"]


def test_a_merchant_gets_a_tier_and_keeps_it(served: Served) -> None:
    check_problem(served.get("/v1/merchants/m-unheard-of", key="audit"), "not_found")
    response = served.call("PUT", "/v1/merchants/m-77", key="rules", json={"tier": "watched", "reason": "new"})

    assert response.status_code == 200, response.text
    assert served.get("/v1/merchants/m-77", key="audit").json()["tier"] == "watched"


def test_lists_are_listed(served: Served) -> None:
    response = served.get("/v1/lists", key="rules")

    assert response.status_code == 200
    assert all("name" in each for each in response.json()["items"])
    check_problem(served.get("/v1/lists/no-such-list/entries", key="rules"), "not_found")


def test_a_value_is_put_on_a_list_once_and_not_taken_off_by_one_person(served: Served) -> None:
    path, entry = "/v1/lists/tor-exits/entries", {"value": "203.0.113.77", "reason": "seen in card testing"}
    added = served.post(path, json=entry, key="person")

    assert added.status_code == 201, added.text
    (listed,) = served.get(path, key="audit").json()["items"]
    assert listed["id"] == added.json()["id"]
    check_problem(served.post(path, json=entry, key="rules"), "conflict")
    check_problem(served.call("DELETE", f"{path}/{listed['id']}", key="rules"), "second_person")
    asked = served.call("DELETE", f"{path}/{listed['id']}", key="person")
    assert asked.json()["state"] == "ending"
    check_problem(served.post(f"{path}/{listed['id']}/approval", key="person"), "second_person")
    kept = served.call("DELETE", f"{path}/{listed['id']}/approval", key="rules")
    assert kept.json()["state"] == "active"
    check_problem(served.call("DELETE", f"{path}/nothing", key="person"), "not_found")
    check_problem(served.post(f"{path}/nothing/approval", key="person"), "not_found")


FITS = {"value": "1.2.3.4", "reason": "x"}
NOT_KNOWN = "this field is not known here"
NO_NETWORK = "this is not an IP address or a network such as 192.0.2.0/24 or 2001:db8::/32"


@pytest.mark.parametrize(
    ("entry", "errors"),
    [
        ({}, {"value": ("missing_field", "is required", ""), "reason": ("missing_field", "is required", "")}),
        ({"value": "", "reason": "SECRET"}, {"value": ("too_short", "at least 1 characters", "")}),
        ({"value": "SECRET", "reason": "x"}, {"value": ("bad_format", NO_NETWORK, "")}),
        (FITS | {"reason": "x" * 401}, {"reason": ("too_long", "at most 400 characters", "")}),
        (FITS | {"value": 7}, {"value": ("wrong_type", "text is needed", "")}),
        (FITS | {"expire": "SECRET"}, {"expire": ("unknown_field", NOT_KNOWN, "did you mean 'expires'?")}),
        (
            FITS | {"colour": "SECRET"},
            {
                "colour": (
                    "unknown_field", NOT_KNOWN, "the fields are person, value, reason, expires",
                )
            },
        ),
        (FITS | {"4111111111111111": 1}, {"(a name that is not shown)": ("unknown_field", NOT_KNOWN, None)}),
        (
            FITS | {"expires": "SECRET"},
            {
                "expires": (
                    "bad_instant", "not an ISO 8601 instant with a zone", "write 2026-11-20T08:30:00+08:00",
                )
            },
        ),
        (
            {"value": "SECRET", "reason": "x", "expires": "2020-01-01T00:00:00Z"},
            {"value": ("bad_format", NO_NETWORK, ""), "expires": ("out_of_range", "lies in the past", None)},
        ),
    ],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_refused_by_the_names_of_its_fields(
    served: Served, entry: dict[str, Any], errors: dict[str, tuple[str, str, str | None]]
) -> None:
    response = served.post("/v1/lists/tor-exits/entries", json=entry, key="rules")
    found = {each["path"]: each for each in check_problem(response, "body_invalid")["errors"]}

    assert found.keys() == errors.keys()
    for path, (code, what, hint) in errors.items():
        assert (found[path]["code"], found[path]["what"]) == (code, what)
        assert hint is None or found[path]["hint"] == hint
    assert "SECRET" not in response.text
    assert "4111" not in response.text


DONE = "captured, blocked, overridden"


@pytest.mark.parametrize(
    ("report", "path", "code", "what"),
    [
        ({"what": "SECRET"}, "what", "not_a_choice", "must be one of challenge, review, enforced"),
        ({"result": "passed"}, "what", "missing_field", "is required"),
        ({"what": "enforced", "result": "SECRET"}, "result", "not_a_choice", f"must be one of {DONE}"),
        ({"what": "challenge", "result": "passed", "resaon": "x"}, "resaon", "unknown_field", NOT_KNOWN),
        (["SECRET"], "(body)", "wrong_type", "an object is needed"),
    ],
)  # fmt: skip
def test_a_report_that_makes_no_sense_is_refused_by_the_names_of_its_fields(
    served: Served, report: Any, path: str, code: str, what: str
) -> None:
    response = served.post("/v1/decisions/x/resolution", json=report, key="outcome")
    (error,) = check_problem(response, "body_invalid")["errors"]

    assert (error["path"], error["code"], error["what"]) == (path, code, what)
    assert code != "unknown_field" or error["hint"] == "did you mean 'reason'?"
    assert "SECRET" not in response.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/lists/tor-exits/entries"), ("PUT", "/v1/merchants/m-1"), ("POST", "/v1/decisions/x/resolution")],
)
@pytest.mark.parametrize("body", [b"", b"[]", b'{"tier": "unheard-of", "reason": "x"}', b'{"what": "review"}'])
def test_a_body_that_is_no_event_is_never_called_one(served: Served, method: str, path: str, body: bytes) -> None:
    key = "outcome" if "decisions" in path else "rules"
    response = served.call(method, path, content=body, key=key, headers={"content-type": "application/json"})
    problem = check_problem(response, "body_invalid")

    assert "event" not in f"{problem['title']} {problem['detail']}"
    assert problem["detail"].endswith("in the body; see errors.")


def test_health_needs_no_key(served: Served) -> None:
    assert served.get("/livez").status_code == 200
    ready = served.get("/readyz")
    assert ready.status_code == 200, ready.text
    wire.Ready.model_validate(ready.json())
    assert served.get("/v1/keys/receipt").json()["ed25519"]


def test_a_receipt_is_redeemed_for_a_proof(served: Served) -> None:
    """Its entry is in the log whose checkpoint anybody may read; before a checkpoint covers it, that is said."""
    decided = served.post("/v1/decisions", json=order(), key="score").json()
    key = read_key(served.get("/v1/keys/receipt").json()["vkey"])
    proof = f"/v1/decisions/{decided['id']}/proof"
    log = served.arbiter.log
    old = served.loop.run(log.latest())
    if old is None or served.get(proof, key="score").status_code == 404:
        check_problem(served.get(proof, key="score"), "not_found")
        served.loop.run(log.place())
        served.loop.run(log.publish(1))

    index, path, note = read_proof(served.get(proof, key="score").text)
    checkpoint = Checkpoint.read(open_note(note, [key])[0])
    leaf_hash = bytes.fromhex(decided["receipt"]["leaf_hash"])
    assert merkle.verify_inclusion(leaf_hash, index, checkpoint.size, path, checkpoint.root)
    assert note == served.get("/v1/log/checkpoint").text
    consistency = served.get(f"/v1/log/consistency?old={index + 1}&new={checkpoint.size}", key="rules")
    assert consistency.status_code == 200
    assert read_hashes(consistency.text.splitlines()) == served.loop.run(log.consistency(index + 1, checkpoint.size))
    state = served.get("/v1/log", key="audit").json()
    assert (state["signed"]["entries"], state["anchored"], state["problems"]) == (checkpoint.size, None, {})
    assert state["open"] == checkpoint.size <= state["entries"]
    metrics = served.get("/metrics").text
    for what, told in (("placed", state["entries"]), ("signed", checkpoint.size), ("anchored", 0)):
        assert f'arbiter_log_entries{{state="{what}"}} {float(told)}\n' in metrics
    assert "arbiter_log_problem{" not in metrics
    for sizes, what in {"new=1": "is required", "old=1&new=9223372036854775808": "below 9223372036854775808"}.items():
        refused = check_problem(served.get(f"/v1/log/consistency?{sizes}", key="rules"), "request_invalid")
        assert [each["what"] for each in refused["errors"]] == [what]
    for sizes, code in {"old=2&new=1": "request_invalid", "old=1&new=999999": "not_found", "old=0&new=1": ""}.items():
        answer = served.get(f"/v1/log/consistency?{sizes}", key="rules")
        assert answer.status_code == (404 if code == "not_found" else 400)


def test_a_worker_that_is_not_ready_says_why(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Warmth, "reasons", lambda _: ["windows not warm"])
    response = served.get("/readyz")

    assert response.status_code == 503
    assert response.json()["reasons"] == ["windows not warm"]
    assert response.headers["retry-after"] == "1"


def test_metrics_count_routes_verdicts_and_problems_and_hold_nothing_of_the_callers(served: Served) -> None:
    served.post("/v1/decisions", json=order(), key="score")
    served.get("/v1/decisions/some-personal-id", key="audit")
    text = served.get("/metrics").text

    assert 'arbiter_requests_total{method="POST",route="/v1/decisions",status="200"}' in text
    assert 'arbiter_request_seconds_bucket{le="0.01",method="GET",route="/v1/decisions/{decision_id}"}' in text
    assert "arbiter_verdicts_total{verdict=" in text
    assert 'arbiter_problems_total{code="not_found"}' in text
    assert "some-personal-id" not in text


# -- log and headers


def test_one_line_per_request_without_personal_data(served: Served) -> None:
    response = served.post(
        "/v1/decisions?who=13800138000", json=order(), key="score", headers={"user-agent": "张三".encode()}
    )
    (line,) = [line for line in served.lines() if line.get("id") == response.headers["x-request-id"]]

    assert (line["event"], line["method"], line["route"], line["status"]) == ("request", "POST", "/v1/decisions", 200)
    assert line["caller"] == "score"
    assert line["ms"] > 0
    assert not [value for value in PERSONAL if value in served.log()]


def test_a_persons_name_is_not_in_the_log(served: Served) -> None:
    response = served.get("/v1/rulebook", key="person")
    (line,) = [line for line in served.lines() if line.get("id") == response.headers["x-request-id"]]

    assert line["caller"] == "person"


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("sent", "kept"), [(TRACE, True), ("00-张三", False), (TRACE.upper(), False), (TRACE + "-x", False)]
)
def test_a_trace_is_passed_on_only_in_its_strict_form(served: Served, sent: str, kept: bool) -> None:
    response = served.get("/livez", headers={"traceparent": sent.encode()})
    (line,) = [line for line in served.lines() if line.get("id") == response.headers["x-request-id"]]

    assert response.headers.get("traceparent") == (sent if kept else None)
    assert line.get("trace") == (TRACE.split("-")[1] if kept else None)


def test_no_answer_may_be_cached_or_sniffed(served: Served) -> None:
    for response in (served.get("/livez"), served.get("/nowhere"), served.get("/docs")):
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"


# -- OpenAPI and docs


def test_the_openapi_document_is_complete(served: Served) -> None:
    document = served.get("/openapi.json").json()
    text = json.dumps(document)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))

    assert names <= document["components"]["schemas"].keys()
    assert "ValidationError" not in text
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary") or operation.get("description"), (method, path)
    assert document["servers"] == [{"url": "/", "description": "The server that this document came from."}]


def test_operations_have_names_of_one_style(served: Served) -> None:
    paths = served.get("/openapi.json").json()["paths"]
    ids = [operation["operationId"] for operations in paths.values() for operation in operations.values()]

    assert len(ids) == len(set(ids))
    assert [id for id in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)+", id)] == []
    assert {"decide_event", "decide_batch", "read_decision", "set_merchant"} < set(ids)


def test_the_manual_says_which_addresses_the_document_leaves_out(served: Served) -> None:
    manual = (ROOT / "docs" / "api.md").read_text()
    routes = {route.path for route in served.app.routes if hasattr(route, "path")}
    left_out = routes - served.get("/openapi.json").json()["paths"].keys()

    assert left_out == {"/metrics", "/docs", "/openapi.json"}
    assert "`/metrics`, `/docs` and `/openapi.json` are not in that document" in manual


def test_the_bodies_in_the_manual_are_taken(served: Served) -> None:
    """Those of a merchant and of a list entry."""
    manual = (ROOT / "docs" / "api.md").read_text().split("## Merchants and lists")[1].split("\n## ")[0]
    tier, entry = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", manual, re.DOTALL))

    assert served.call("PUT", "/v1/merchants/m-manual", key="rules", json=tier).json()["tier"] == tier["tier"]
    added = served.post("/v1/lists/disposable-domains/entries", key="rules", json=entry)
    assert (added.status_code, added.json()["value"]) == (201, entry["value"])


def test_the_samples_and_the_openapi_document_agree(served: Served) -> None:
    document = served.get("/openapi.json").json()
    examples = document["paths"]["/v1/decisions"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    schema = {"$ref": "#/components/schemas/Event", "components": document["components"]}

    assert set(examples) == {path.stem for path in SAMPLES}
    for example in examples.values():
        jsonschema.validate(example["value"], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(order(undeclared=1), schema)


def test_every_answer_of_the_hot_path_has_an_example_that_fits(served: Served) -> None:
    document = served.get("/openapi.json").json()
    components = document["components"]
    for name in ("Decision", "Recorded", "Problem"):
        (example,) = components["schemas"][name]["examples"]
        jsonschema.validate(example, {"$ref": f"#/components/schemas/{name}", "components": components})
    batch = document["paths"]["/v1/decisions/batch"]["post"]
    sent = batch["requestBody"]["content"]["application/x-ndjson"]["example"]
    event = {"$ref": "#/components/schemas/Event", "components": components}
    for line in sent.splitlines():
        jsonschema.validate(json.loads(line), event)
    answered = batch["responses"]["200"]["content"]["application/x-ndjson"]["example"]
    assert [set(json.loads(line)) & {"verdict", "line"} for line in answered.splitlines()] == [{"verdict"}, {"line"}]


def test_an_example_of_an_answer_has_what_an_answer_has(served: Served) -> None:
    answer = served.post("/v1/decisions", key="score", json=order()).json()
    # Another test may have given the merchant a tier that drives terms.
    assert set(samples.DECISION) == set(answer) - {"terms"}
    assert set(samples.DECISION["receipt"]) == set(answer["receipt"])


def test_the_docs_page_loads_nothing_from_anywhere(served: Served) -> None:
    response = served.get("/docs")
    page = response.text

    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.findall(r"<script|<link|<img|<iframe|@import|url\(|src=", page)
    assert not re.findall(r"href=['\"]?(?!#|/openapi\.json)", page.replace("href='#", "href=#"))
    for path in served.get("/openapi.json").json()["paths"]:
        assert path in page


def test_the_manual_names_every_route_code_and_limit(served: Served) -> None:
    manual = (ROOT / "docs" / "api.md").read_text()

    for path, operations in served.get("/openapi.json").json()["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in manual
    for code, (status, _) in TABLE.items():
        assert f"| `{code}` | {status} |" in manual
    for name, value in ((name, getattr(Limits(), name)) for name in Limits.__slots__):
        assert f"| `ARBITER_API_{name.upper()}` | {value} |" in manual


@pytest.mark.anyio
async def test_an_app_of_settings_opens_its_engine_and_closes_it_again(tmp_path: Path, sqlite_url: str) -> None:
    """As another server than ours runs it."""
    KeyFile.create(tmp_path / "keys.json")
    write(tmp_path, SMALL)
    packs = {"rules": tmp_path / "rules", "policies": tmp_path / "policies"}
    app = create_app(Settings(database_url=sqlite_url, key_file=tmp_path / "keys.json", **packs))
    before = gc.get_threshold()
    async with app.router.lifespan_context(app):
        await ready(app.state.desk.arbiter)
        assert gc.get_threshold() != before
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://arbiter.test") as client:
            assert (await client.get("/readyz")).status_code == 200

    assert gc.get_threshold() == before
