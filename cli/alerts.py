"""`alerts`: what is raised, and what was, out of the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import click
import orjson

from cli.group import counted
from cli.language import language, language_option, said, say, term
from cli.opened import moment, with_ledger
from cli.report import grid
from cli.settings import TENANT
from engine.alarms import RAISED
from engine.journal import EVERYONE
from engine.ledger import Ledger
from engine.packs.moments import BEIJING, start_of


class Alert(NamedTuple):
    """An alert: when it was raised, when it was over (None: it is not), and what its entry says."""

    tenant: str
    since: int
    until: int | None
    told: dict[str, Any]


@click.command()
@click.option("--since", metavar="MOMENT", help="Also those that are over, raised from then on.")
@click.option("--tenant", default=TENANT, show_default=True, help="Whose; those of the server itself are shown, too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@language_option
def alerts(since: str | None, tenant: str, as_json: bool) -> None:
    """The alerts that are raised, out of the ledger: the line, since when, the figure of then, what it means, and the
    playbook for it. A server watches the lines; without one nothing is raised and nothing is over.

    \b
    Examples:
      arbiter alerts
      arbiter alerts --since 2026-11-01 --json
    """
    begin = moment(since, start_of, "--since")

    async def work(ledger: Ledger) -> list[bytes]:
        return [leaf for name in (tenant, EVERYONE) for leaf in await ledger.alert_changes(name)]

    found = [each for each in history(with_ledger(work)) if each.until is None or _within(each, begin)]
    if as_json:
        click.echo(json.dumps(list(map(_data, found)), ensure_ascii=False, indent=2))
        return
    head = tuple(map(term, ("alert", "group", "severity", "since", "until", "cases", "playbook")))
    for line in grid(head, [_cells(each) for each in found]) if found else ():
        click.echo(line)
    for each in found:
        click.echo(f"{each.told['line']}: {_message(each)}")
    raised = sum(each.until is None for each in found)
    say(f"{counted(raised, 'alert')} raised", err=True)


def _within(alert: Alert, begin: int | None) -> bool:
    return begin is not None and alert.since >= begin


def history(leaves: list[bytes]) -> Iterator[Alert]:
    """Every alert that was ever raised, those that are not over first, the newest first."""
    found: dict[tuple[str, str, str], list[Alert]] = {}
    for record in map(orjson.loads, leaves):
        told = orjson.loads(record["after"] or record["before"])
        mine = found.setdefault((record["tenant"], told["line"], told["group"]), [])
        if record["what"] == RAISED:
            mine.append(Alert(record["tenant"], record["decided_at"], None, told))
        elif mine:
            mine[-1] = mine[-1]._replace(until=record["decided_at"])
    flat = [each for mine in found.values() for each in mine]
    yield from sorted(flat, key=lambda each: (each.until is not None, -each.since, each.told["line"]))


def _cells(alert: Alert) -> tuple[str, ...]:
    told = alert.told
    until = said("raised") if alert.until is None else _time(alert.until)
    ends = (_time(alert.since), until)
    return (told["line"], told["group"] or "–", told["severity"], *ends, f"{told['cases']:,}", told["playbook"] or "–")


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).astimezone(BEIJING).isoformat(timespec="seconds")


def _message(alert: Alert) -> str:
    messages: dict[str, str] = alert.told["message"]
    return messages.get(language()) or next(iter(messages.values()))


def _data(alert: Alert) -> dict[str, Any]:
    return {**alert.told, "tenant": alert.tenant, "since": alert.since, "until": alert.until}
