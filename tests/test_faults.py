"""The server as a process of its own, held against each promise while something breaks: killed, without disk, without
its database, without its keys, told to stop, with callers that leave."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from api import Limits
from api.auth import TTL
from engine.rulebook import load
from engine.vault import KeyFile
from tests import servers
from tests.books import shipped
from tests.daemon import REFUSED, ROOT, Daemon
from tests.load import Load, check_answers, check_windows, everything, facts_by_arrival, opened

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.timeout(600)]


@pytest.fixture
def daemon(tmp_path: Path, database_url: str, key_path: Path) -> Iterator[Daemon]:
    """A server with the shipped packs, once on SQLite and once on PostgreSQL."""
    with Daemon(tmp_path, database_url, key_path) as daemon:
        yield daemon


@pytest.fixture
def on_sqlite(tmp_path: Path, sqlite_url: str, key_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, sqlite_url, key_path) as daemon:
        yield daemon


def order(event_id: str, **more: Any) -> dict[str, Any]:
    """The sample order under an id of its own."""
    sample: dict[str, Any] = json.loads((ROOT / "docs/examples/order.json").read_bytes())
    return {**sample, "event_id": event_id, **more}


def code(response: Any) -> str:
    return str(response.json()["type"]).rpartition(":")[2]


# ------------------------------------------------------------------------------------------ kill -9


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_kill_9_under_load_loses_no_verdict_and_makes_no_second_one(daemon: Daemon, keys: KeyFile, rounds: int) -> None:
    """Whoever saw a verdict gets the same bytes after the crash; what was in doubt is answered; windows are as if the
    server had never stopped."""
    moments = random.Random(rounds)
    load = Load(daemon, seed=rounds)
    for _ in range(rounds):
        answered = len(load.seen)
        with load.running():
            while len(load.seen) <= answered + 10:  # On a busy machine that takes a while.
                time.sleep(0.02)
            time.sleep(moments.uniform(0, 0.9))
            daemon.kill()
        daemon.start()
    load.again()

    asyncio.run(check_answers(daemon.url, keys, load))
    pairs = asyncio.run(facts_by_arrival(daemon.url, keys))
    assert check_windows(shipped(), pairs) > 10 * rounds


# ------------------------------------------------------------------------------------------ disk full


def test_a_full_disk_is_503_and_forgets_nothing_that_was_answered(on_sqlite: Daemon, keys: KeyFile) -> None:
    """No file of the process can grow, its log neither. With room again all goes on by itself."""
    load = Load(on_sqlite, seed=1)
    with load.running():
        on_sqlite.until(lambda: len(load.seen) > 50)
        on_sqlite.limit_files(4096)
        on_sqlite.until(lambda: on_sqlite.state() == 503)
        refused = on_sqlite.call("POST", "/v1/decisions", "score", json=order("full"))
        assert (refused.status_code, code(refused)) == (503, "verdict_unknown")
        assert refused.headers["retry-after"]
        for told in map(orjson.loads, list(load.seen.values())[:5]):  # what was recorded before can still be read
            assert on_sqlite.call("GET", f"/v1/decisions/{told['id']}", "audit").status_code == 200
        on_sqlite.until(lambda: load.statuses[503] > 300)
        on_sqlite.limit_files(None)
        on_sqlite.until_ready(20)
    assert load.statuses[503]
    assert load.refused == 0, "connections ended without an answer"
    load.again()
    assert '"lines_lost"' in on_sqlite.log()

    asyncio.run(check_answers(on_sqlite.url, keys, load))
    assert check_windows_after(on_sqlite, keys)


def check_windows_after(daemon: Daemon, keys: KeyFile) -> int:
    """A decision made now reads what a replay of the whole ledger reads; how many were checked."""
    now = time.time_ns() // 1_000
    for number in range(5):
        probe = order(f"probe-{now}-{number}", at=f"{time.strftime('%Y-%m-%dT%H:%M:%S')}Z")
        probe["card"]["ref"] = f"card-{number}"
        probe["buyer"]["account"] = f"u-{number % 4}"
        assert daemon.call("POST", "/v1/decisions", "score", json=probe).status_code == 200
    return check_windows(shipped(), asyncio.run(facts_by_arrival(daemon.url, keys)), since=now)


def test_a_log_that_cannot_be_written_stops_no_verdict(tmp_path: Path, sqlite_url: str, key_path: Path) -> None:
    """Standard output on a full disk: every request is answered, and on the same connection."""
    with Daemon(tmp_path, sqlite_url, key_path, log=Path("/dev/full")) as daemon:
        load = Load(daemon, seed=2, clients=4)
        with load.running():
            daemon.until(lambda: load.statuses[200] > 300)  # far more lines than a buffer takes
        assert set(load.statuses) == {200}
        assert load.doubt == set()


# ------------------------------------------------------------------------------- the database is away


def test_postgresql_gone_and_back_is_503_meanwhile_and_needs_no_restart(
    tmp_path: Path, keys: KeyFile, key_path: Path
) -> None:
    """In order and by kill -9; every route answers 503, none 500; afterwards everything is as it was."""
    with servers.own("postgresql") as server, Daemon(tmp_path, server.url(), key_path) as daemon:
        load = Load(daemon, seed=3)
        with load.running():
            for away, seconds in ((server.stop, 0.5), (server.kill, TTL + 0.5)):
                time.sleep(0.7)
                away()
                time.sleep(seconds)  # the second time longer than a key is believed without asking the database
                daemon.until(lambda: daemon.state() == 503)
                refused = [
                    daemon.call("POST", "/v1/decisions", "score", json=order("away")),
                    daemon.call("POST", "/v1/events", "score", json=order("away-too")),
                    daemon.call("GET", "/v1/decisions", "audit"),
                    daemon.call("GET", "/v1/decisions/x", "audit"),
                    daemon.call("GET", "/v1/decisions/x/explanation", "audit"),
                    daemon.call("GET", "/v1/merchants/m-1", "rules"),
                    daemon.call("PUT", "/v1/merchants/m-1", "rules", json={"tier": "watched", "reason": "new"}),
                ]
                assert [one.status_code for one in refused] == [503] * len(refused)
                assert all(one.headers["retry-after"] for one in refused)
                server.start()
                daemon.until_ready(20)
        assert load.statuses[503]
        load.again()

        asyncio.run(check_answers(daemon.url, keys, load))
        assert check_windows_after(daemon, keys)
        assert '"event":"incident"' not in daemon.log()


def test_connections_cut_under_load_are_no_incident(
    tmp_path: Path, postgresql_url: str, keys: KeyFile, key_path: Path
) -> None:
    """An administrator ends all sessions, again and again: each request ends as answered or 503."""
    with Daemon(tmp_path, postgresql_url, key_path) as daemon:
        load = Load(daemon, seed=4)
        with load.running():
            asyncio.run(cut_connections(postgresql_url, daemon))
        load.again()

        asyncio.run(check_answers(daemon.url, keys, load))
        assert '"event":"incident"' not in daemon.log()


async def cut_connections(url: str, daemon: Daemon) -> None:
    import asyncpg

    admin = await asyncpg.connect(url)
    try:
        for _ in range(15):
            await asyncio.sleep(0.1)
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            read = await asyncio.to_thread(daemon.call, "GET", "/v1/decisions", "audit")
            assert read.status_code in (200, 503), read.text
    finally:
        await admin.close()


# --------------------------------------------------------------------------------------- starting


def refuses(tmp_path: Path, url: str, key_file: Path) -> str:
    """The sentence with which a server refuses to start."""
    daemon = Daemon(tmp_path, url, key_file)
    with closing(daemon.client):
        assert daemon.start(ready=False).wait() == REFUSED
    sentence = daemon.errors().splitlines()[-1]
    assert "Traceback" not in daemon.errors()
    return sentence


def test_without_its_key_file_it_does_not_start_and_says_why(on_sqlite: Daemon, tmp_path: Path, key_path: Path) -> None:
    on_sqlite.stop()
    other, mine = tmp_path / "other", tmp_path / "mine"
    other.mkdir()
    mine.mkdir()
    KeyFile.create(other / "keys")
    open_to_all = shutil.copy(key_path, mine / "keys")
    Path(open_to_all).chmod(0o644)
    url = on_sqlite.url

    assert "does not exist" in refuses(other, url, tmp_path / "nowhere")
    assert "the keys of another ledger" in refuses(other, url, other / "keys")
    assert "chmod 600" in refuses(mine, url, mine / "keys")


def test_a_key_encryption_key_that_was_lost_is_told_and_never_a_500(on_sqlite: Daemon, tmp_path: Path) -> None:
    """The key file kept its identity but lost the key above all others: 503 to seal or show, until it is back."""
    on_sqlite.stop()
    held = json.loads(on_sqlite.key_file.read_text())
    lost = tmp_path / "lost.keys"
    lost.write_text(json.dumps({**held, "kek": "kek-new", "keks": {"kek-new": held["pseudonym_key"]}}))
    lost.chmod(0o600)
    on_sqlite.start()
    before = on_sqlite.call("POST", "/v1/decisions", "score", json=order("before")).json()
    on_sqlite.stop()
    with Daemon(tmp_path, on_sqlite.url, lost) as after:
        hidden = after.call("GET", f"/v1/decisions/{before['id']}/explanation", "audit")
        shown = after.call("GET", f"/v1/decisions/{before['id']}/explanation?purpose=audit", "auditor")
        new = after.call("POST", "/v1/decisions", "score", json=order("after"))

        assert hidden.status_code == 200
        assert [(each.status_code, code(each)) for each in (shown, new)] == [(503, "vault")] * 2
        assert "key-encryption key" in shown.json()["detail"]
        lost.write_text(on_sqlite.key_file.read_text())
    with Daemon(tmp_path, on_sqlite.url, lost) as after:
        same = after.call("POST", "/v1/decisions", "score", json=order("before")).json()
        new = after.call("POST", "/v1/decisions", "score", json=order("after")).json()
        assert same == before
        assert after.call("GET", f"/v1/decisions/{new['id']}/explanation?purpose=audit", "auditor").status_code == 200


# -------------------------------------------------------------------------------------- rulebooks


@pytest.fixture
def own_packs(tmp_path: Path) -> Path:
    """A folder with copies of the shipped packs, to be spoilt."""
    for name in ("rules", "policies"):
        shutil.copytree(ROOT / name, tmp_path / "packs" / name)
    return tmp_path / "packs"


def packed(tmp_path: Path, url: str, key_path: Path, packs: Path) -> Daemon:
    return Daemon(tmp_path, url, key_path, rules=packs / "rules", policies=packs / "policies")


def test_a_bad_rulebook_is_refused_with_every_problem_and_the_last_good_one_stays(
    tmp_path: Path, sqlite_url: str, key_path: Path, own_packs: Path
) -> None:
    bad = own_packs / "rules" / "bad.yaml"
    with packed(tmp_path, sqlite_url, key_path, own_packs) as daemon:
        first = daemon.call("GET", "/v1/rulebook", "audit").json()["hash"]
        bad.write_text(BAD_PACK)
        refused = daemon.call("POST", "/v1/rulebook/reload", "admin")
        assert (refused.status_code, code(refused)) == (422, "pack_invalid")
        problems = [(one["file"], one["line"]) for one in refused.json()["errors"]]
        assert problems == [("rules/bad.yaml", 7), ("rules/bad.yaml", 12)]
        assert daemon.call("GET", "/v1/rulebook", "audit").json()["hash"] == first
        decided = daemon.call("POST", "/v1/decisions", "score", json=order("meanwhile")).json()
        pins = daemon.call("GET", f"/v1/decisions/{decided['id']}", "audit").json()["record"]["pins"]
        assert pins["rulebook"] == first

        bad.write_text(BAD_PACK.replace("amonut", "amount").replace("&&", "and"))
        assert daemon.call("POST", "/v1/rulebook/reload", "admin").json()["hash"] != first
        assert daemon.call("POST", "/v1/decisions", "score", json=order("later")).status_code == 200


BAD_PACK = """\
pack: own/bad
about: Two mistakes.
for: transaction
owner: tests
rules:
  - id: own.typo
    when: amonut > 5 CNY
    signal: typo
    because: {en: typo, zh: 错字}
    basis: {kind: house-policy, review_by: 2027-05-31}
  - id: own.habit
    when: amount > 5 CNY && amount < 9 CNY
    signal: habit
    because: {en: habit, zh: 习惯}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""


def test_a_reload_under_load_counts_every_event_in_a_new_window(
    tmp_path: Path, sqlite_url: str, keys: KeyFile, key_path: Path, own_packs: Path
) -> None:
    """A window that comes with a reload misses no event: neither of the ledger nor of those decided meanwhile."""
    with packed(tmp_path, sqlite_url, key_path, own_packs) as daemon:
        traffic = Load(daemon, seed=5)
        with traffic.running():
            for number in range(4):
                time.sleep(0.3)
                (own_packs / "rules" / "new.yaml").write_text(NEW_WINDOW.format(minutes=60 + number))
                assert daemon.call("POST", "/v1/rulebook/reload", "admin").status_code == 200
        assert traffic.wrong == []
        now = time.time_ns() // 1_000
        for number in range(4):
            probe = order(f"probe-{number}", at=f"{time.strftime('%Y-%m-%dT%H:%M:%S')}Z")
            probe["buyer"]["account"] = f"u-{number}"
            assert daemon.call("POST", "/v1/decisions", "score", json=probe).status_code == 200
        book = load(own_packs / "rules", own_packs / "policies", strict=False)
        assert check_windows(book, asyncio.run(facts_by_arrival(daemon.url, keys)), since=now) == 4


NEW_WINDOW = """\
pack: own/new
about: A window that was not there before.
for: transaction
owner: tests
rules:
  - id: own.new
    when: count(transaction, payment last {minutes}m by buyer.account where amount > 1 CNY) > 100000
    signal: new
    because: {{en: new, zh: 新}}
    basis: {{kind: house-policy, review_by: 2027-05-31}}
"""


def test_a_model_that_is_wanted_and_missing_is_a_finding_and_the_policy_decides(
    tmp_path: Path, sqlite_url: str, key_path: Path, own_packs: Path
) -> None:
    policy = own_packs / "policies" / "checkout.yaml"
    text = policy.read_text().replace("score: {cap: 100}", "score: {cap: 100, anomaly: {at: 99.5, points: 20}}")
    policy.write_text(text.replace("model_unavailable: {}", "model_unavailable: {at_least: review}"))
    with packed(tmp_path, sqlite_url, key_path, own_packs) as daemon:
        decided = daemon.call("POST", "/v1/decisions", "score", json=order("o1"))

    assert decided.status_code == 200
    assert decided.json()["degraded"] == ["model_unavailable"]
    assert "model_unavailable" in decided.json()["signals"]
    assert decided.json()["verdict"] == "review"
    assert decided.json()["anomaly"] is None


# ---------------------------------------------------------------------------------------- stopping


def test_told_to_stop_under_load_it_answers_or_refuses_and_commits_what_waits(daemon: Daemon, keys: KeyFile) -> None:
    """No answer is cut in half, the process ends by itself and well, and whatever was answered is there."""
    load = Load(daemon, seed=6, clients=16)
    with load.running():
        daemon.until(lambda: len(load.seen) > 100)
        assert daemon.stop(20) == 0
    assert (load.wrong, load.cut) == ([], 0)
    asyncio.run(check_answers(daemon.url, keys, load))
    if daemon.url.startswith("sqlite"):
        assert not list(daemon.folder.glob("arbiter.db-*")), "the write-ahead log was left to the next start"
    daemon.start()
    load.again()


# ------------------------------------------------------------------------------------ callers that leave


def batch_of(daemon: Daemon, lines: int, name: str) -> socket.socket:
    """A connection on which a batch was sent, and nothing read."""
    body = b"".join(orjson.dumps(order(f"{name}-{number}")) + b"\n" for number in range(lines))
    connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = (
        f"POST /v1/decisions/batch HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {daemon.keys['score']}\r\n"
        f"content-type: application/x-ndjson\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def accepted(daemon: Daemon) -> int:
    """How many of a dozen batches at once are let in."""
    began = (
        f"POST /v1/decisions/batch HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {daemon.keys['score']}\r\n"
        "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    with ExitStack() as stack:
        address = ("127.0.0.1", daemon.port)
        lines = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(12)]
        for line in lines:
            line.sendall(began.encode())
        return sum(line.recv(100).startswith(b"HTTP/1.1 200") for line in lines)


def test_batches_that_nobody_reads_or_finishes_neither_hang_nor_leak(
    tmp_path: Path, sqlite_url: str, keys: KeyFile, key_path: Path
) -> None:
    """Callers send and never read, or leave in the middle: others are served meanwhile, and all is given back."""
    patience = {"ARBITER_API_BODY_SECONDS": "2"}
    with Daemon(tmp_path, sqlite_url, key_path, environ=patience) as daemon:
        process = psutil.Process(daemon.pid)
        with batch_of(daemon, 1, "first") as connection:
            connection.recv(100)
        daemon.until(lambda: len(process.net_connections()) <= 2)
        files, threads = process.num_fds(), process.num_threads()

        left = [batch_of(daemon, 300, f"left-{number}") for number in range(4)]
        slow = [batch_of(daemon, 300, f"slow-{number}") for number in range(3)]
        for connection in left:
            connection.recv(100)
            connection.close()
        for number in range(20):
            began = time.monotonic()
            assert daemon.call("POST", "/v1/decisions", "score", json=order(f"other-{number}")).status_code == 200
            assert time.monotonic() - began < 5
        daemon.until(lambda: process.num_fds() <= files + len(slow), 30)
        for connection in slow:
            connection.close()
        daemon.until(lambda: process.num_fds() <= files, 30)
        assert process.num_threads() <= threads + 4  # database threads come as they are needed, four at most
        daemon.until(lambda: accepted(daemon) == Limits().batches_at_once)  # every place is free again
        assert '"event":"incident"' not in daemon.log()

        async def no_twins() -> bool:
            async with opened(sqlite_url, keys) as ledger:
                ids = [stored.entry.event_id for stored in await everything(ledger)]
            return len(ids) == len(set(ids))

        assert asyncio.run(no_twins())
