"""Everything a caller can do, in random order and at the same time, against the real server.

Whatever the order: no 500, one verdict for an id, the same answer on a retry, cases that move on one step at a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import orjson
import pytest

from engine.vault import KeyFile
from tests.daemon import Daemon
from tests.load import an_event, everything, opened

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.timeout(900)]

RESULTS = {
    "challenge": ("passed", "failed", "abandoned"),
    "review": ("approved", "rejected"),
    "enforced": ("captured", "blocked", "overridden"),
}
EXPECTED = {200, 201, 403, 404, 409, 422, 429}
"""What a caller may hear of a healthy server; everything else is a mistake."""


@pytest.fixture
def daemon(tmp_path: Path, database_url: str, key_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, database_url, key_path) as daemon:
        yield daemon


@dataclass
class Callers:
    """Some callers that do whatever comes to their mind, and remember what they heard."""

    daemon: Daemon
    seed: str
    answers: dict[str, bytes] = field(default_factory=dict)
    bodies: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    heard: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)

    async def run(self, steps: int, callers: int = 8) -> None:
        """So many steps of each of the callers, all at the same time."""
        address = f"http://127.0.0.1:{self.daemon.port}"
        async with httpx.AsyncClient(base_url=address, timeout=30) as self._client:
            await asyncio.gather(*(self._caller(Random(f"{self.seed}/{number}"), steps) for number in range(callers)))
            await asyncio.gather(*(self._send(id) for id in sorted(self.answers)))

    async def _caller(self, random: Random, steps: int) -> None:
        often = {self._new: 30, self._again: 10, self._other: 5, self._outcome: 8, self._resolve: 25, self._look: 12}
        often |= {self._batch: 3, self._change: 7}
        for step in random.choices(list(often), list(often.values()), k=steps):
            await step(random)

    async def _call(self, method: str, path: str, key: str, body: Any = None, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.daemon.keys[key]}", "content-type": "application/json"}
        content = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        headers |= more.pop("headers", {})
        response = await self._client.request(method, path, content=content, headers=headers, **more)
        self.heard[f"{method} {path[:14]}", response.status_code] += 1
        if response.status_code not in EXPECTED:
            self.wrong.append((method, path, body, response.status_code, response.text))
        return response

    async def _send(self, id: str) -> None:
        path, body = self.bodies[id]
        response = await self._call("POST", path, "score" if b'"outcome"' not in body else "outcome", body)
        if response.status_code != 200:
            self.wrong.append((id, response.status_code, response.text))
        elif self.answers.setdefault(id, response.content) != response.content:
            self.wrong.append((id, self.answers[id], response.content))
        elif path == "/v1/decisions":
            self.decisions.append(response.json()["id"])

    async def _new(self, random: Random) -> None:
        # A few of the ids are taken by several callers at the same time.
        id = f"{self.seed}-{random.randrange(10**9 if random.random() < 0.9 else 20)}"
        self.bodies.setdefault(id, an_event(id, Random(id)))
        await self._send(id)

    async def _again(self, random: Random) -> None:
        if self.answers:
            await self._send(random.choice(list(self.answers)))

    async def _other(self, random: Random) -> None:
        """A known id with another body is a conflict, on whichever way it comes."""
        if not self.answers:
            return
        path, body = self.bodies[id := random.choice(list(self.answers))]
        known = orjson.loads(body)
        other = orjson.dumps({**known, "at": (datetime.fromisoformat(known["at"]) + timedelta(seconds=1)).isoformat()})
        response = await self._call("POST", path, "score" if b'"outcome"' not in body else "outcome", other)
        if response.status_code != 409:
            self.wrong.append((id, response.status_code, response.text))

    async def _outcome(self, random: Random) -> None:
        known = [id for id in self.answers if not id.startswith("outcome-")]
        about = random.choice(known) if known and random.random() < 0.8 else "nobody-knows"
        id = f"outcome-{self.seed}-{random.randrange(10**9)}"
        body = {"kind": "outcome", "event_id": id, "at": datetime.now(UTC).isoformat()}
        body["outcome"] = {"refers_to": about, "result": random.choice(("chargeback", "false_positive"))}
        if about in self.answers:
            self.bodies[id] = "/v1/events", orjson.dumps(body)
            await self._send(id)
        elif (await self._call("POST", "/v1/events", "outcome", body)).status_code != 422:
            self.wrong.append((id, "an outcome of nothing was taken in"))

    async def _resolve(self, random: Random) -> None:
        """One report or several at once about the same decision."""
        if not self.decisions:
            return
        id, reports = random.choice(self.decisions), []
        for _ in range(random.choice((1, 1, 1, 8))):
            what = random.choice(("challenge", "challenge", "review", "review", "enforced"))
            reports.append({"what": what, "result": random.choice(RESULTS[what]), "reason": "seen by a person"})
        if random.random() < 0.5:
            reports = reports[:1] * len(reports)
        path = f"/v1/decisions/{id}/resolution"
        await asyncio.gather(*(self._call("POST", path, "person", report) for report in reports))

    async def _look(self, random: Random) -> None:
        id = random.choice(self.decisions) if self.decisions else "none"
        paths = ("/v1/decisions?limit=5", "/v1/decisions?verdict=decline", f"/v1/decisions/{id}")
        await self._call("GET", random.choice((*paths, f"/v1/decisions/{id}/explanation")), "auditor")

    async def _batch(self, random: Random) -> None:
        lines = [an_event(id, Random(id)) for id in (f"{self.seed}-b{random.randrange(40)}" for _ in range(12))]
        for path, body in lines:
            self.bodies.setdefault(orjson.loads(body)["event_id"], (path, body))
        sent = [self.bodies[orjson.loads(body)["event_id"]] for path, body in lines if path == "/v1/decisions"]
        content = b"".join(body + b"\n" for _, body in sent)
        headers = {"content-type": "application/x-ndjson"}
        response = await self._call("POST", "/v1/decisions/batch", "score", content, headers=headers)
        for (_, body), line in zip(sent, response.content.splitlines(), strict=True):
            id = orjson.loads(body)["event_id"]
            if self.answers.setdefault(id, line) != line:
                self.wrong.append((id, self.answers[id], line))

    async def _change(self, random: Random) -> None:
        match random.randrange(4):
            case 0:
                await self._call("POST", "/v1/rulebook/reload", "admin")
            case 1:
                tier = {"tier": random.choice(("trusted", "standard", "watched", "unheard-of")), "reason": "tests"}
                await self._call("PUT", f"/v1/merchants/m-{random.randrange(3)}", "person", tier)
            case 2:
                entry = {"value": f"198.51.100.{random.randrange(9)}", "reason": "tests"}
                await self._call("POST", "/v1/lists/tor-exits/entries", "person", entry)
            case 3:
                held = (await self._call("GET", "/v1/lists/tor-exits/entries", "person")).json()["items"]
                if held:
                    path = f"/v1/lists/tor-exits/entries/{random.choice(held)['id']}"
                    steps = [("DELETE", path), ("POST", f"{path}/approval"), ("DELETE", f"{path}/approval")]
                    method, step = random.choice(steps)
                    response = await self._call(method, step, "person")
                    if response.status_code == 200 and response.json()["state"] == "ended":
                        self.wrong.append((step, "one person took a value off a list that raises the risk"))


async def check_ledger(url: str, keys: KeyFile, callers: Callers) -> int:
    """One entry for an id, and each case moved on one step at a time; how many cases ended."""
    async with opened(url, keys) as ledger:
        kept = sorted(await everything(ledger), key=lambda stored: stored.arrival)
    ids = Counter(stored.entry.event_id for stored in kept if stored.entry.event_id)
    assert [id for id, times in ids.items() if times > 1] == []
    assert set(callers.answers) <= set(ids)
    verdicts = {stored.entry.id: stored.entry.verdict for stored in kept if stored.entry.kind == "decision"}
    ended: dict[str | None, list[str]] = defaultdict(list)
    for stored in kept:
        if stored.entry.kind != "resolution":
            continue
        about, record = stored.entry.refers_to, orjson.loads(stored.entry.leaf)
        assert record["before"] == verdicts[str(about)], "two resolutions of the same state"
        if record["what"] != "enforced":
            verdicts[str(about)] = record["verdict"]
            ended[about].append(record["what"])
    return len(ended)


@pytest.mark.parametrize(
    ("rounds", "steps"), [(1, 60), pytest.param(15, 100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_random_callers_at_the_same_time_break_nothing(daemon: Daemon, keys: KeyFile, rounds: int, steps: int) -> None:
    ended = 0
    for number in range(rounds):
        callers = Callers(daemon, f"s{number}")
        asyncio.run(callers.run(steps))
        assert callers.wrong == [], callers.heard
        assert len(callers.answers) > steps
        ended = asyncio.run(check_ledger(daemon.url, keys, callers))
    assert ended > 3 * rounds
    assert '"event":"incident"' not in daemon.log()
