"""Batches of lines, in process and over real sockets with callers who do not behave."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import Limits, wire
from api.problems import URN
from bench._orders import orders
from tests.serving import Served, serve_in_process, serve_on_loopback

_numbers = count(1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the whole module."""
    with serve_in_process(tmp_path_factory.mktemp("batch")) as served:
        yield served


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The answers, one by one."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text.endswith("\n") or not response.text
    return [json.loads(line) for line in response.text.splitlines()]


def batch(served: Served, body: bytes, **headers: str) -> list[dict[str, Any]]:
    """Send a batch."""
    headers = {"content-type": "application/x-ndjson"} | headers
    return lines_of(served.call("POST", "/v1/decisions/batch", key="score", content=body, headers=headers))


def some_orders(number: int) -> list[bytes]:
    """Orders that nobody sent before."""
    return list(islice(orders(next(_numbers)), number))


def ids(bodies: list[bytes]) -> list[str]:
    """Their event ids."""
    return [json.loads(body)["event_id"] for body in bodies]


def code(answer: dict[str, Any]) -> str:
    """The code of a problem, or nothing for a decision."""
    return str(answer.get("type", "")).removeprefix(URN)


def test_a_thousand_lines_of_every_kind_get_their_answers_in_order(served: Served) -> None:
    body, expected, good = [], [], iter(some_orders(1000))
    first = next(good)
    for number in range(1, 1001):
        if number % 10 == 1:
            body.append(b"{" * (number % 7) + b"broken")
            expected.append((number, "event_invalid"))
        elif number % 10 == 2:
            body.append(b"" if number % 20 == 2 else b"  \t\r")
        elif number % 10 == 3:
            body.append(b'{"x":"' + b"y" * 70_000 + b'"}' if number % 100 == 3 else b"[]")
            expected.append((number, "too_large" if number % 100 == 3 else "event_invalid"))
        elif number % 10 == 4:
            body.append(first)
            expected.append((number, ids([first])[0]))
        elif number % 10 == 5:
            body.append(first.replace(b'"channel":"app"', b'"channel":"web"'))
            expected.append((number, "conflict" if number > 4 else ""))
        else:
            line = next(good)
            body.append(line)
            expected.append((number, ids([line])[0]))

    answers = batch(served, b"\n".join(body))
    assert [code(each) or each["event_id"] for each in answers] == [what for _, what in expected]
    for (number, _), each in zip(expected, answers, strict=True):
        if code(each):
            wire.Problem.model_validate(each)
            assert each["line"] == number
        else:
            wire.Decision.model_validate(each)
    same = {json.dumps(each) for each in answers if each.get("event_id") == ids([first])[0]}
    assert len(same) == 1


@pytest.mark.parametrize("body", [b"", b"\n", b"\n\n \r\n"])
def test_a_batch_of_nothing_gets_nothing(served: Served, body: bytes) -> None:
    assert batch(served, body) == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_last_line_needs_no_line_end(served: Served, end: bytes) -> None:
    bodies = some_orders(2)

    assert [each["event_id"] for each in batch(served, b"\r\n".join(bodies) + end)] == ids(bodies)


def test_a_batch_that_says_it_is_too_large_is_refused_before_it_is_read(served: Served) -> None:
    headers = {"content-type": "application/x-ndjson", "content-length": str(9 * 1024 * 1024)}
    response = served.call("POST", "/v1/decisions/batch", key="score", content=b"", headers=headers)

    assert response.status_code == 413


def test_our_own_mistake_with_one_line_leaves_the_others_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies, decide = some_orders(3), type(served.arbiter).decide

    async def broken(arbiter: Any, body: bytes, *args: Any, **more: Any) -> bytes:
        if body == bodies[1]:
            raise KeyError("张三")
        return await decide(arbiter, body, *args, **more)

    monkeypatch.setattr(type(served.arbiter), "decide", broken)
    answers = batch(served, b"\n".join(bodies))

    assert [code(each) for each in answers] == ["", "internal", ""]
    (incident,) = [line for line in served.lines() if line["event"] == "incident"]
    assert answers[1]["incident"] == f"{incident['request']}-{incident['line']}"
    assert "张三" not in served.log()


def test_a_batch_waits_for_its_keys_bucket_where_a_single_call_is_refused(tmp_path: Path) -> None:
    with serve_in_process(tmp_path, limits=Limits(rate_per_key=50, burst_per_key=5)) as served:
        bodies = some_orders(15)
        start = time.monotonic()
        answers = batch(served, b"\n".join(bodies))

    assert [each["event_id"] for each in answers] == ids(bodies)
    assert time.monotonic() - start > 0.15


def test_lines_are_decided_some_at_a_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, decide = 0, 0, type(served.arbiter).decide

    async def counted(*args: Any, **more: Any) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await decide(*args, **more)
        finally:
            running -= 1

    monkeypatch.setattr(type(served.arbiter), "decide", counted)
    batch(served, b"\n".join(some_orders(100)))

    assert 2 <= most <= Limits().batch_lines_at_once


# -- over real sockets


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, int]]:
    """A server on loopback that loses patience quickly."""
    limits = Limits(body_seconds=2, batch_bytes=1_000_000, batches_at_once=2)
    with serve_on_loopback(tmp_path_factory.mktemp("wired"), limits=limits) as wired:
        yield wired


class Line:
    """A bare connection: sends what it is told, reads what comes."""

    def __init__(
        self, port: int, path: str, key: str, *, media_type: str = "application/x-ndjson", more: str = ""
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        head = f"POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {key}\r\ncontent-type: {media_type}\r\n{more}"
        self.socket.sendall((head + ("" if more else "transfer-encoding: chunked\r\n") + "\r\n").encode())
        self.seen = b""

    def chunk(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def read_until(self, mark: bytes) -> bytes:
        """What came up to `mark`; fails when the connection ends before."""
        while mark not in self.seen:
            piece = self.socket.recv(65536)
            assert piece, self.seen[-2000:]
            self.seen += piece
        head, _, self.seen = self.seen.partition(mark)
        return head

    def close(self) -> None:
        self.socket.close()


@pytest.mark.service
def test_an_answer_comes_before_the_next_line_is_sent(wired: tuple[Served, int]) -> None:
    served, port = wired
    with closing(Line(port, "/v1/decisions/batch", served.keys["score"])) as line:
        for body in some_orders(3):
            line.chunk(body + b"\n")
            assert ids([body])[0].encode() in line.read_until(b"}\n")
        line.end()
        line.read_until(b"0\r\n\r\n")


@pytest.mark.service
def test_who_sends_everything_before_reading_anything_does_not_stand_still(wired: tuple[Served, int]) -> None:
    served, port = wired
    bodies = some_orders(500)
    with closing(Line(port, "/v1/decisions/batch", served.keys["score"])) as line:
        for body in bodies:
            line.chunk(body + b"\n")
        line.end()
        time.sleep(0.3)
        answer = line.read_until(b"\r\n0\r\n\r\n")
    assert [each for each in ids(bodies) if each.encode() not in answer] == []


@pytest.mark.service
def test_a_line_that_broke_off_is_no_event(wired: tuple[Served, int]) -> None:
    served, port = wired
    whole, cut = some_orders(2)
    with closing(Line(port, "/v1/decisions/batch", served.keys["score"])) as line:
        line.chunk(whole + b"\n")
        line.read_until(b"}\n")
        line.chunk(cut)  # all of it, but neither its line end nor the body's
    time.sleep(0.3)
    found = served.get("/v1/decisions?limit=200", key="audit").json()["items"]
    events = {each["event_id"] for each in found}

    assert ids([whole])[0] in events
    assert ids([cut])[0] not in events


@pytest.mark.service
def test_a_batch_over_the_limit_is_answered_up_to_the_line_that_passes_it(wired: tuple[Served, int]) -> None:
    served, port = wired
    bodies = some_orders(900)
    with closing(Line(port, "/v1/decisions/batch", served.keys["score"])) as line:
        for body in bodies:
            line.chunk(body + b"\n")
        line.end()
        answer = line.read_until(b"\r\n0\r\n\r\n")
    last = json.loads(answer[answer.rindex(b'{"type"') :].splitlines()[0])

    assert code(last) == "too_large"
    assert 300 < last["line"] < 900
    assert answer.count(b'"verdict"') == last["line"] - 1


@pytest.mark.service
def test_a_batch_that_falls_silent_is_ended_with_a_problem(wired: tuple[Served, int]) -> None:
    served, port = wired
    (body,) = some_orders(1)
    with closing(Line(port, "/v1/decisions/batch", served.keys["score"])) as line:
        line.chunk(body + b"\n")
        answer = line.read_until(b"0\r\n\r\n")

    assert ids([body])[0].encode() in answer
    assert b"problem:timeout" in answer


@pytest.mark.service
def test_a_single_body_that_does_not_arrive_is_a_timeout(wired: tuple[Served, int]) -> None:
    served, port = wired
    more = "content-length: 100\r\n"
    line = Line(port, "/v1/decisions", served.keys["score"], media_type="application/json", more=more)
    with closing(line):
        line.socket.sendall(b"{")
        assert b"408" in line.read_until(b"\r\n")


@pytest.mark.service
def test_only_so_many_batches_are_read_at_once(wired: tuple[Served, int]) -> None:
    served, port = wired
    held = [Line(port, "/v1/decisions/batch", served.keys["score"]) for _ in range(2)]
    for line in held:
        line.read_until(b"\r\n")  # its head has come: it has its place
    with closing(Line(port, "/v1/decisions/batch", served.keys["score"])) as third:
        assert b"429" in third.read_until(b"\r\n")
        assert b"retry-after: 1" in third.read_until(b"\r\n\r\n")
    for line in held:
        line.end()
        line.read_until(b"0\r\n\r\n")
        line.close()


@pytest.mark.service
def test_requests_and_connections_leave_no_reference_cycles_behind(
    wired: tuple[Served, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server freezes what survives young collections, so what only a collector could free would add up."""
    monkeypatch.setattr("engine.ledger.log.PLACE_SECONDS", 60)  # the log's own work, four times a second, is not theirs
    served, port = wired
    headers = {"authorization": f"Bearer {served.keys['score']}", "content-type": "application/json"}

    def left() -> int:
        """How many objects only a collector frees after a visit."""
        for body in [*some_orders(10), b"{}"]:
            with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
                connection.request("POST", "/v1/decisions", body, headers)
                assert connection.getresponse().read()
        time.sleep(0.3)
        return gc.collect()

    left()
    gc.disable()
    try:
        # Other work that comes now and then may leave some; what a request leaves is there each time.
        assert min(left() for _ in range(3)) < 11
    finally:
        gc.enable()


@pytest.mark.service
def test_a_caller_who_leaves_gives_his_place_back(wired: tuple[Served, int]) -> None:
    served, port = wired
    for _ in range(5):
        line = Line(port, "/v1/decisions/batch", served.keys["score"])
        assert b"200" in line.read_until(b"\r\n")
        line.close()
        time.sleep(0.05)


@pytest.mark.service
@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x00\xff\n\n",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: t\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"A" * 100_000,
    ],
)
def test_rubbish_on_the_wire_leaves_the_server_alive(wired: tuple[Served, int], rubbish: bytes) -> None:
    _, port = wired
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        connection.sendall(rubbish)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
