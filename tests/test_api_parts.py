"""The parts of the API that need no engine: problems, keys and their buckets, limits, the line splitter, counters."""

from __future__ import annotations

import asyncio
import gc
import json
from hashlib import sha256
from time import perf_counter

import pytest

from api.auth import AHEAD, MAX_KEYS, TTL, Holder, Keys, allow
from api.collector import survivors_frozen
from api.decisions import Lines
from api.desk import Limits, Meters, json_log
from api.exchange import deadline_ms, require
from api.gate import where
from api.problems import TABLE, URN, MediaTypeRefused, answer, by_status, problem
from engine.arbiter import Caller
from engine.errors import (
    ArbiterError,
    BodyRefused,
    Conflict,
    EventRefused,
    FieldProblem,
    NotAllowed,
    NotFound,
    PackError,
    Problem,
    RequestRefused,
    SettingsError,
    TooMuch,
    Unavailable,
    VaultError,
)

SHOP = Caller("shop", "service", "t", frozenset({"score"}))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestRefused("bad cursor"), 400, "request_invalid"),
        (NotAllowed("no key"), 401, "unauthenticated"),
        (NotAllowed("scope", missing="audit"), 403, "scope_missing"),
        (NotFound("no such decision"), 404, "not_found"),
        (Conflict("another body"), 409, "conflict"),
        (TooMuch("too long"), 413, "too_large"),
        (MediaTypeRefused("JSON please"), 415, "media_type_unsupported"),
        (EventRefused([FieldProblem("at", "missing_field", "must be there")]), 422, "event_invalid"),
        (BodyRefused([FieldProblem("tier", "missing_field", "is required")]), 422, "body_invalid"),
        (PackError([Problem("a.yaml", 1, 2, "unknown field", "did you mean 'ip'?")]), 422, "pack_invalid"),
        (TooMuch("slow down", retry_after=2), 429, "too_many_requests"),
        (Unavailable("queue is full"), 503, "unavailable"),
        (Unavailable("not acknowledged", code="verdict_unknown"), 503, "verdict_unknown"),
        (Unavailable("something new", code="a_reason_without_a_row"), 503, "unavailable"),
        (VaultError("key file"), 503, "vault"),
    ],
)
def test_every_error_becomes_the_problem_its_row_says(error: ArbiterError, status: int, code: str) -> None:
    found = problem(error)

    assert found is not None
    assert (found.status, found.code) == (status, code)
    assert json.loads(found.body) == {"type": URN + code, "title": TABLE[code][1], "status": status} | {
        name: value for name, value in found.fields.items() if name in ("detail", "errors")
    }


def test_an_error_that_no_request_can_cause_is_no_problem_but_an_incident() -> None:
    assert problem(SettingsError("ARBITER_WORKERS")) is None


def test_a_refused_event_lists_path_code_what_and_hint() -> None:
    found = problem(
        EventRefused([FieldProblem("card.reff", "unknown_field", "is not declared", "did you mean 'ref'?")])
    )

    assert found is not None
    assert found.fields["errors"] == [
        {"path": "card.reff", "code": "unknown_field", "what": "is not declared", "hint": "did you mean 'ref'?"}
    ]
    assert found.fields["detail"] == "1 problem in the event; see errors."


def test_refused_packs_list_file_line_and_column() -> None:
    found = problem(PackError([Problem("a.yaml", 3, 9, "unknown field"), Problem("a.yaml", 1, 1, "empty")]))

    assert found is not None
    assert [(each["line"], each["column"]) for each in found.fields["errors"]] == [(1, 1), (3, 9)]
    assert found.fields["detail"] == "2 problems in the packs; see errors."


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (NotAllowed("no key"), (b"www-authenticate", b'Bearer realm="arbiter"')),
        (
            NotAllowed("scope", missing="rules or audit"),
            (b"www-authenticate", b'Bearer realm="arbiter", error="insufficient_scope", scope="rules audit"'),
        ),
        (TooMuch("slow down", retry_after=7), (b"retry-after", b"7")),
        (Unavailable("later", retry_after=3), (b"retry-after", b"3")),
    ],
)
def test_a_problem_tells_the_caller_what_to_do_next_in_a_header(
    error: ArbiterError, header: tuple[bytes, bytes]
) -> None:
    found = problem(error)

    assert found is not None
    assert header in found.headers


def test_a_problem_of_a_batch_names_its_line() -> None:
    assert json.loads(answer("timeout").line(7))["line"] == 7


def test_an_unknown_http_status_is_still_a_problem_with_a_code() -> None:
    assert by_status(418).code == "request_invalid"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Door:
    """Keys over a dict of secrets, counting how often it was asked."""

    def __init__(self, *, rate: float = 10.0, burst: float = 3.0) -> None:
        self.clock = Clock()
        self.asked = 0
        self.known = {"secret": SHOP}
        self.keys = Keys(self.authenticate, rate, burst, self.clock)

    async def authenticate(self, secret: str) -> Caller:
        self.asked += 1
        if secret not in self.known:
            raise NotAllowed("This is not a key of ours.")
        return self.known[secret]

    def holder(self, header: bytes = b"Bearer secret"):
        return asyncio.run(self.keys.holder({b"authorization": header}))


def test_a_key_is_verified_once_and_then_believed_for_a_while() -> None:
    door = Door()

    assert [door.holder().caller for _ in range(5)] == [SHOP] * 5
    assert door.asked == 1


def test_requests_at_once_with_a_new_key_ask_once() -> None:
    door = Door()

    async def together() -> list[Holder]:
        return await asyncio.gather(*(door.keys.holder({b"authorization": b"Bearer secret"}) for _ in range(20)))

    assert [each.caller for each in asyncio.run(together())] == [SHOP] * 20
    assert door.asked == 1


def test_requests_at_once_with_a_wrong_key_are_all_refused_and_ask_once() -> None:
    door = Door()

    async def together() -> list[Holder | BaseException]:
        asked = (door.keys.holder({b"authorization": b"Bearer wrong"}) for _ in range(20))
        return await asyncio.gather(*asked, return_exceptions=True)

    assert {type(each) for each in asyncio.run(together())} == {NotAllowed}
    assert door.asked == 1


def test_a_request_that_is_given_up_leaves_the_verification_to_the_others() -> None:
    door = Door()

    async def together() -> Holder:
        first, second = (asyncio.create_task(door.keys.holder({b"authorization": b"Bearer secret"})) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(together()).caller == SHOP


def test_a_key_in_use_is_verified_again_behind_its_requests() -> None:
    door = Door()
    headers = {b"authorization": b"Bearer secret"}

    async def over_time() -> list[int]:
        asked = []
        for seconds in (0.0, TTL - AHEAD - 0.1, 0.1, 0.1, AHEAD):
            door.clock.now += seconds
            await door.keys.holder(headers)
            asked.append(door.asked)
            await asyncio.sleep(0.01)
        return asked

    # The fourth finds it verified by the third; the last would have been too late for the first verification.
    assert asyncio.run(over_time()) == [1, 1, 1, 2, 2]


def test_a_revoked_key_that_is_in_use_ends_before_its_time() -> None:
    door = Door()
    headers = {b"authorization": b"Bearer secret"}

    async def over_time() -> None:
        await door.keys.holder(headers)
        door.known.clear()
        door.clock.now += TTL - AHEAD
        await door.keys.holder(headers)
        await asyncio.sleep(0.01)
        await door.keys.holder(headers)

    with pytest.raises(NotAllowed):
        asyncio.run(over_time())


def test_a_revoked_key_stops_working_when_its_time_is_over() -> None:
    door = Door()
    door.holder()
    door.known.clear()
    door.clock.now += TTL

    with pytest.raises(NotAllowed):
        door.holder()
    assert not door.keys._holders


def test_a_key_whose_scopes_changed_has_the_new_ones_when_its_time_is_over() -> None:
    door = Door()
    door.holder()
    door.known["secret"] = changed = Caller("shop", "service", "t", frozenset({"audit"}))
    door.clock.now += TTL

    assert door.holder().caller == changed


def test_the_secret_itself_is_not_kept() -> None:
    door = Door()
    door.holder()

    assert list(door.keys._holders) == [sha256(b"secret").digest()]


@pytest.mark.parametrize(
    "header", [b"", b"secret", b"Basic secret", b"Bearer", b"Bearer ", b"Bearer " + b"x" * 600, "Bearer ключ".encode()]
)
def test_what_is_no_key_does_not_reach_the_database(header: bytes) -> None:
    door = Door()

    with pytest.raises(NotAllowed):
        door.holder(header)
    assert door.asked == 0


def test_wrong_keys_are_not_remembered() -> None:
    door = Door()
    for number in range(10):
        with pytest.raises(NotAllowed):
            door.holder(f"Bearer wrong-{number}".encode())

    assert not door.keys._holders


def test_verified_keys_are_bounded_and_the_oldest_goes() -> None:
    door = Door()
    door.known = dict.fromkeys(map(str, range(MAX_KEYS + 5)), SHOP)

    async def all_of_them() -> None:
        for secret in door.known:
            await door.keys.holder({b"authorization": f"Bearer {secret}".encode()})

    asyncio.run(all_of_them())
    assert len(door.keys._holders) == MAX_KEYS
    assert sha256(b"0").digest() not in door.keys._holders


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    door = Door(rate=10.0, burst=3.0)
    holder = door.holder()

    assert [door.keys.wait(holder) for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(0.1)]
    door.clock.now += 0.1
    assert door.keys.wait(holder) == 0.0
    assert door.keys.wait(holder) > 0.0
    door.clock.now += 3600
    assert [door.keys.wait(holder) for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(0.1)]


def test_a_key_that_is_verified_again_does_not_get_a_full_bucket() -> None:
    door = Door(rate=0.001, burst=1.0)
    assert door.keys.wait(door.holder()) == 0.0
    door.clock.now += TTL

    assert door.keys.wait(door.holder()) > 0.0
    assert door.asked == 2


def test_a_known_key_costs_a_few_microseconds() -> None:
    door = Door(rate=1e9, burst=1e9)
    headers = {b"authorization": b"Bearer secret-of-forty-three-characters-as-made"}
    door.known = {"secret-of-forty-three-characters-as-made": SHOP}

    async def best() -> float:
        times = []
        for _ in range(20):
            start = perf_counter()
            for _ in range(200):
                allow((await door.keys.holder(headers)).caller, "score")
            times.append((perf_counter() - start) / 200)
        return min(times)

    assert asyncio.run(best()) < 10e-6


def test_any_one_of_the_scopes_will_do_and_a_missing_one_is_named() -> None:
    allow(SHOP)
    allow(SHOP, "audit", "score")
    with pytest.raises(NotAllowed) as refused:
        allow(SHOP, "audit", "rules")
    assert refused.value.missing == "audit or rules"


def test_limits_come_from_the_environment_and_have_defaults() -> None:
    assert Limits.read({}) == Limits()
    assert Limits.read({"ARBITER_API_EVENT_BYTES": "1000"}).event_bytes == 1000


@pytest.mark.parametrize("text", ["0", "-1", "a lot", "", "1.5", "9" * 40, "٣"])
def test_a_limit_that_is_no_whole_number_stops_the_start_and_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="ARBITER_API_RATE_PER_KEY"):
        Limits.read({"ARBITER_API_RATE_PER_KEY": text})


@pytest.mark.parametrize("text", [b"0", b"-5", b"60001", b"1.5", b"soon", b"", b"99999999", "٣".encode()])
def test_a_deadline_is_milliseconds_from_1_to_60000(text: bytes) -> None:
    assert deadline_ms({}) is None
    assert deadline_ms({b"arbiter-deadline-ms": b"60000"}) == 60000
    with pytest.raises(RequestRefused):
        deadline_ms({b"arbiter-deadline-ms": text})


def test_a_content_type_may_have_parameters_and_capitals() -> None:
    require(b"application/json", {b"content-type": b"Application/JSON; charset=utf-8"})
    with pytest.raises(MediaTypeRefused):
        require(b"application/json", {b"content-type": b"text/plain"})


def split(*pieces: bytes, limit: int = 10) -> list[tuple[int, bytes | str]]:
    """All lines of a body that comes in pieces; what is refused as its message."""
    lines = Lines(limit)
    found = [line for piece in pieces for line in lines.feed(piece)] + list(lines.end())
    return [(number, line if isinstance(line, bytes) else str(line)) for number, line in found]


TOO_LONG = "A line may have 10 bytes."


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ((b"",), []),
        ((b"\n\n",), []),
        ((b"a\nb\n",), [(1, b"a"), (2, b"b")]),
        ((b"a\nb",), [(1, b"a"), (2, b"b")]),
        ((b"a\r\n\r\nb\r\n",), [(1, b"a"), (3, b"b")]),
        ((b" a \n\t\n b",), [(1, b"a"), (3, b"b")]),
        ((b"ab", b"cd\ne", b"", b"f"), [(1, b"abcd"), (2, b"ef")]),
        ((b"a", b"\n", b"\n", b"b"), [(1, b"a"), (3, b"b")]),
        ((b"x" * 10 + b"\nb",), [(1, b"x" * 10), (2, b"b")]),
        ((b"x" * 11 + b"\nb",), [(1, TOO_LONG), (2, b"b")]),
        ((b"x" * 6, b"x" * 6, b"x" * 6, b"\nb\n"), [(1, TOO_LONG), (2, b"b")]),
        ((b"a\n" + b"x" * 99,), [(1, b"a"), (2, TOO_LONG)]),
    ],
)
def test_lines_are_cut_wherever_the_pieces_end(pieces: tuple[bytes, ...], lines: list[tuple[int, bytes | str]]) -> None:
    assert split(*pieces) == lines
    assert split(*(bytes([byte]) for byte in b"".join(pieces))) == lines


def test_a_line_over_the_limit_is_not_kept_in_memory() -> None:
    lines = Lines(10)
    for _ in range(100):
        assert not list(lines.feed(b"x" * 1000))
        assert len(lines._rest) <= 10


def test_a_verdict_is_counted_from_the_answer_and_no_string_of_a_caller_passes_for_one() -> None:
    meters = Meters(dict)
    meters.verdict(json.dumps({"event_id": '"verdict":"evil"', "verdict": "decline"}, separators=(",", ":")).encode())

    assert b'arbiter_verdicts_total{verdict="decline"} 1.0' in meters.text()
    assert b"evil" not in meters.text()


def test_calls_that_the_store_did_not_answer_are_counted() -> None:
    assert b"arbiter_store_failures_total 7.0" in Meters(dict, lambda: 7).text()


def test_unknown_methods_share_one_label() -> None:
    meters = Meters(dict)
    for method in ("BREW", "WHEN", "PROPFIND"):
        meters.request(method, "none", 405, 0.001)

    text = meters.text().decode()
    assert 'arbiter_requests_total{method="other",route="none",status="405"} 3.0' in text
    assert "BREW" not in text


def test_the_place_of_an_error_is_told_without_its_message() -> None:
    try:
        try:
            raise KeyError("张三 13800138000")
        except KeyError as error:
            raise ValueError("张三") from error
    except ValueError as error:
        told = where(error)

    assert told["error"] == "ValueError"
    assert told["cause"]["error"] == "KeyError"
    assert "test_api_parts" in told["frames"][-1]
    assert "张三" not in json.dumps(told, ensure_ascii=False)


def test_what_survives_young_collections_is_frozen_while_serving() -> None:
    before = gc.get_threshold()
    with survivors_frozen():
        frozen, kept = gc.get_freeze_count(), [[] for _ in range(1000)]
        gc.collect(1)
        assert gc.get_freeze_count() >= frozen + len(kept)
        assert gc.get_threshold() != before

    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_the_log_writes_one_json_object_per_line(tmp_path) -> None:
    with (tmp_path / "log").open("wb") as stream:
        log = json_log(stream)
        log.info("request", status=200)
        log.debug("not shown")
    (line,) = (tmp_path / "log").read_text().splitlines()

    assert json.loads(line).keys() == {"event", "level", "status", "timestamp"}
