"""`demo`: what `make run` starts. Sample orders and listings judged with their reasons, then the API.

The samples' times are moved to now and the bodies kept under `.arbiter/demo/`: a second start sends the same bytes and
so gets the same verdicts, as any client does that repeats a call.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import orjson

from cli.serve import run
from cli.settings import TENANT
from engine.arbiter import SCOPES, Arbiter
from engine.assembly import Settings, open_arbiter
from engine.errors import NotAllowed, SettingsError
from engine.shipped import shipped
from engine.vault import KeyFile

HOME = Path(".arbiter")
WARM_SECONDS = 60
SAMPLES = (
    "order.json",
    "order-alipay.json",
    "order-guest.json",
    "order-live.json",
    "listing.json",
    "demo/listing-plain.json",
    "demo/card-testing.jsonl",
)
"""Of a file with several events the last one is shown; those before it are its history."""

AGAIN = (
    "These are the answers of the first start: the same ids get the same verdicts, whatever the rules say by now.\n"
    f"To begin anew, stop this and delete the folder {HOME}.\n"
)

_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")
_COLOURS = {"approve": "green", "challenge": "yellow", "review": "yellow", "decline": "red"}


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as it is sent: its name, and the bodies in order."""

    name: str
    bodies: tuple[bytes, ...]


@click.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port of the API.")
@click.option("--no-serve", is_flag=True, help="Stop after the verdicts.")
def demo(port: int, no_serve: bool) -> None:
    """Judge sample orders and listings, then serve the API on this machine.

    Makes .arbiter/ in the working directory, with a key file, an API key of the tenant default and a SQLite ledger. A
    second start sends the same and shows the same answers. To begin anew, delete the folder.

    \b
    Examples:
      arbiter demo
      arbiter demo --no-serve
      arbiter demo --port 8080
    """
    if not no_serve:
        from api import listening

        listening("127.0.0.1", port).close()  # before anything is shown that would not hold
    given = _settings()
    key, answers, again = asyncio.run(_judged(given))
    if again:
        click.echo(AGAIN)
    for name, answer in answers:
        for line in shown(name, answer):
            click.echo(line)
    base = f"http://127.0.0.1:{port}"
    click.echo(f"API    {base}      documentation  {base}/docs      schema  {base}/openapi.json\n")
    click.echo(f"One order, a new one each time:\n\n{curl(base, key)}\n")
    if not no_serve:
        click.echo("Ctrl-C stops it; what was decided stays in .arbiter/.")
        run(given, "127.0.0.1", port)


def _settings() -> Settings:
    """The settings of the demo: a ledger and keys of its own, the packs of the environment."""
    HOME.mkdir(mode=0o700, exist_ok=True)
    keys = HOME / "keys.json"
    if not keys.exists():
        KeyFile.create(keys)
    ledger = f"sqlite:///{HOME / 'ledger.db'}"
    own = {"ARBITER_DATABASE_URL": ledger, "ARBITER_KEY_FILE": str(keys), "ARBITER_WORKERS": "1"}
    return Settings.read({**os.environ, **own})


async def _judged(given: Settings) -> tuple[str, list[tuple[str, dict[str, Any]]], bool]:
    """The API key, what each sample was answered, and whether all of them had their answers before."""
    arbiter = await open_arbiter(given)
    try:
        key = await _key(arbiter)
        caller = await arbiter.authenticate(key)
        await _warm(arbiter)
        answers, again = [], True
        for sample in samples():
            known = await arbiter.decisions(caller, event_id=orjson.loads(sample.bodies[-1])["event_id"])
            again &= bool(known["items"])
            answer = b""
            for body in sample.bodies:
                answer = await arbiter.decide(body, caller)
            answers.append((sample.name, orjson.loads(answer)))
        return key, answers, again
    finally:
        await arbiter.close()


async def _warm(arbiter: Arbiter) -> None:
    for _ in range(WARM_SECONDS * 20):
        if arbiter.ready()["ready"]:
            return
        await asyncio.sleep(0.05)
    raise SettingsError("; ".join(arbiter.ready()["reasons"]))


async def _key(arbiter: Arbiter) -> str:
    """The demo's API key: the one kept, or a new one where that does not work (the ledger was deleted)."""
    file = HOME / "api.key"
    key = file.read_text("ascii").strip() if file.exists() else ""
    if not await _works(arbiter, key):
        key = await arbiter.create_key("demo", "service", TENANT, SCOPES)
        _keep(file, key.encode() + b"\n")
    return key


async def _works(arbiter: Arbiter, key: str) -> bool:
    try:
        caller = await arbiter.authenticate(key)
    except NotAllowed:
        return False
    return caller.tenant == TENANT


def samples() -> Iterator[Sample]:
    """The samples as they were sent the first time, or made now."""
    now = datetime.now(UTC).replace(microsecond=0)
    kept = HOME / "demo"
    kept.mkdir(exist_ok=True)
    folder = shipped("docs/examples")
    for name in SAMPLES:
        file = kept / f"{Path(name).stem}.jsonl"
        if not file.exists():
            events = moved(list(_events((folder / name).read_bytes())), now)
            _keep(file, b"".join(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events))
        yield Sample(name, tuple(file.read_bytes().splitlines()))


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    try:
        yield orjson.loads(content)
    except orjson.JSONDecodeError:
        yield from map(orjson.loads, content.splitlines())


def moved(events: Sequence[Mapping[str, Any]], now: datetime) -> list[Any]:
    """The events with all their times moved by as much, so that the last one happens now.

    They get ids of their own: the samples as they are can then still be sent.
    """
    by = now - datetime.fromisoformat(events[-1]["at"])
    return [{**_moved(event, by), "event_id": f"demo-{event['event_id']}"} for event in events]


def _moved(value: Any, by: timedelta) -> Any:
    if isinstance(value, dict):
        return {name: _moved(item, by) for name, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, by) for item in value]
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return (datetime.fromisoformat(value) + by).isoformat()
    return value


def _keep(file: Path, content: bytes) -> None:
    """Write a file that only this user reads, whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    part.touch(mode=0o600)
    part.write_bytes(content)
    part.replace(file)


def shown(name: str, answer: Mapping[str, Any]) -> Iterator[str]:
    """A verdict and its reasons for people, in English and Chinese."""
    verdict = click.style(f"{answer['verdict']:<10}", fg=_COLOURS.get(answer["verdict"]), bold=True)
    yield f"{name:<24}{verdict}score {answer['score']}"
    for reason in answer["reasons"]:
        for text in reason["message"].values():
            yield f"    {text}"
        law = f", {', '.join(reason['law'])}" if reason["law"] else ""
        yield click.style(f"      {reason['rule']}, {reason['points']} points{law}", dim=True)
    yield ""


def curl(base: str, key: str) -> str:
    """A line for a shell that sends one order, a new one each time."""
    order = {
        "kind": "transaction",
        "event_id": "EVENT",
        "at": "NOW",
        "amount": "698.00 CNY",
        "buyer": {"account": "u-20391", "guest": True},
        "card": {"ref": "card_8f2k1", "country": "US"},
        "ip_country": "RO",
        "shipping": {"country": "DE"},
        "customs": {"cross_border": False},
    }
    body = json.dumps(order).replace("EVENT", "try-'$(date +%s%N)'").replace("NOW", "'$(date -u +%Y-%m-%dT%H:%M:%SZ)'")
    return (
        f"curl -s {base}/v1/decisions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{body}'"
    )
