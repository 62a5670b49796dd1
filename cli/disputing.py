"""`dispute pack` and `dispute close`: what a chargeback dispute needs, for this user alone, and the end of its copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import click
import orjson

from cli.folder import new_folder, put
from cli.group import counted
from cli.opened import decision_of, moment, with_vault
from cli.packs import rulebook
from cli.settings import actor, pack_options
from cli.tables import stamp
from engine.archive import Library
from engine.assembly import wall_clock
from engine.dispute import Disputes
from engine.errors import NotFound
from engine.evidence import Evidence
from engine.journal import Journal
from engine.ledger import Ledger
from engine.packs.moments import start_of
from engine.retention import Kept
from engine.vault import Vault


@click.group()
def dispute() -> None:
    """What a chargeback dispute needs."""


@dispute.command("pack", short_help="Write what a chargeback dispute needs into a folder.")
@click.argument("id")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--disputed-on", "day", metavar="DAY", help="When the dispute was raised (Asia/Shanghai).")
@click.option("--as-sent", is_flag=True, help="The sealed copy of the last pack, whatever was erased since.")
@pack_options
def pack(id: str, out: Path, day: str | None, as_sent: bool, rules: Path | None, policies: Path | None) -> None:
    """Write the order, its 3-D Secure results, its delivery, and earlier undisputed orders into a new folder.

    \b
    dispute.html     to be read and printed
    dispute.json     the same as data
    record.json      the record of the decision: the bytes that its receipt signs

    It holds personal data: folder and files can be opened by this user alone. That it was made is recorded in the
    ledger first, as an access with the purpose 'dispute' and the login name, which is this machine's word. What the
    ledger does not hold is named under 'missing'. Days are counted back from --disputed-on; without it, from the day
    on which a chargeback on the order became known, and else from today.

    Where policies/retention.yaml says how long what is sent in disputes is kept, a sealed copy stays in the vault, also
    when the person is erased: --as-sent writes it again. Nothing else opens it, and arbiter dispute close ends it.

    \b
    Examples:
      arbiter dispute pack ev-2026-000184 --out dispute-184
      arbiter dispute pack ev-2026-000184 --as-sent --out arbitration-184
      arbiter dispute pack 01939c3e-6f1c-7d52-a2b7-0d8f6f0b1c11 --disputed-on 2027-02-01 --out dispute
    """
    disputed_on = moment(day, start_of, "--disputed-on")
    if as_sent and day is not None:
        raise click.UsageError("--as-sent writes what was sent: its days are counted already, leave --disputed-on out")
    terms = rulebook(rules, policies).retention.disputes
    work = partial(_sent, id=id) if as_sent else partial(_made, id=id, disputed_on=disputed_on, keep=terms is not None)
    with new_folder(out):
        found, leaf, kept = with_vault(work)
        data, page = orjson.dumps(found, option=orjson.OPT_INDENT_2), "\n".join(_page(found)).encode()
        put(out, {"dispute.json": data, "dispute.html": page, "record.json": leaf})
    for each in found["missing"]:
        click.echo(f"missing: {each}")
    click.echo(f"{out}: recorded as access {found['access']}; it holds personal data", err=True)
    if not as_sent:
        click.echo(_told(terms, kept), err=True)


@dispute.command("close", short_help="End the sealed copies of what was sent: the dispute is over.")
@click.argument("id")
@click.option("--reason", required=True, help="How it ended, in a line; it is sealed.")
def close(id: str, reason: str) -> None:
    """End the sealed copies of what was sent about a decision. Recorded before, under the name you are logged in with.

    \b
    Examples:
      arbiter dispute close ev-2026-000184 --reason "won on 2027-03-02"
    """
    if not reason.strip():
        raise click.UsageError("--reason is empty: say how it ended, in a line")

    async def work(ledger: Ledger, vault: Vault) -> int:
        return await _evidence(ledger, vault).close(await decision_of(ledger, id), reason, actor())

    count = with_vault(work)
    if not count:
        raise NotFound(f"no copy of what was sent about '{id}' is kept")
    click.echo(f"{counted(count, 'sealed copy', 'sealed copies')} ended.")


def _told(terms: Kept | None, kept: bool) -> str:
    if terms is None:
        return "no copy is kept: policies/retention.yaml has no term for disputes"
    if not kept:
        return "something was erased: no copy of this pack is kept. One from before stays, --as-sent writes it again"
    until = stamp(wall_clock() + terms.kept)[:10]
    return f"a sealed copy is kept until {until}: --as-sent writes it again, arbiter dispute close ends it"


def _evidence(ledger: Ledger, vault: Vault) -> Evidence:
    return Evidence(ledger, vault, Journal(ledger, wall_clock))


class Made(NamedTuple):
    """A pack whose access is recorded, the leaf of its decision, and whether it is what the kept copy holds."""

    pack: dict[str, Any]
    leaf: bytes
    kept: bool


def _events(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The events whose entries were opened for a pack."""
    return [found["order"], *found["payments"], *found["delivery"], *found["after_sale"], *found["outcomes"]]


def _erased(found: Mapping[str, Any]) -> list[list[str]]:
    """Whose data is gone, of each event."""
    return [event["erased"] for event in _events(found)]


async def _made(ledger: Ledger, vault: Vault, id: str, disputed_on: int | None, keep: bool) -> Made:
    """The pack made anew, kept where `keep` says so. One in which something is erased takes the place of no copy."""
    stored = await decision_of(ledger, id)
    library = Library(ledger.database, wall_clock)
    disputes, now = Disputes(ledger, vault, library.find), wall_clock()
    found = await disputes.pack(stored, disputed_on, now)
    evidence, count, by = _evidence(ledger, vault), len(_events(found)), actor()
    keeping = keep and not (any(_erased(found)) and await evidence.keeps(stored))
    access = await (evidence.keep(stored, found, count, by) if keeping else evidence.opened(stored, count, by))
    if keeping and _erased(await disputes.pack(await decision_of(ledger, id), disputed_on, now)) != _erased(found):
        # Somebody was erased between the reading and the keeping: that erasure could not know of the copy.
        await evidence.withdraw(stored, access)
        keeping = False
    return Made({**found, "access": access, "made_by": by.name}, stored.entry.leaf, keeping)


async def _sent(ledger: Ledger, vault: Vault, id: str) -> Made:
    """The pack as it was sent last."""
    stored = await decision_of(ledger, id)
    evidence = _evidence(ledger, vault)
    kept = await evidence.last(stored)
    if kept is None:
        raise NotFound(f"no copy of what was sent about '{id}' is kept")
    await evidence.opened(stored, len(_events(kept.pack)), actor())
    made = kept.record
    return Made({**kept.pack, "access": made["id"], "made_by": made["by"]["name"]}, stored.entry.leaf, kept=True)


# The page

_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse;"
    "width:100%;margin:.5em 0 1.5em}th,td{border:1px solid #bbb;padding:.3em .6em;text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere}th{background:#f2f2f2}h2{margin-top:2em}"
)
_SECTIONS = {
    "order": "The order",
    "three_ds": "3-D Secure",
    "payments": "Steps of the payment",
    "delivery": "Delivery",
    "after_sale": "After-sale cases",
    "outcomes": "What became known",
}


def _page(found: Mapping[str, Any]) -> Iterator[str]:
    """One HTML page that needs nothing else. Every value is escaped."""
    decision = found["decision"]
    title = f"Dispute of order {decision['order_id'] or '-'}, event {decision['event_id']}"
    yield f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
    yield f"<p>Made by {escape(found['made_by'])}; access {escape(found['access'])}. It holds personal data.</p>"
    yield "<h2>Missing</h2><ul>"
    yield from (f"<li>{escape(each)}</li>" for each in found["missing"] or ["nothing"])
    yield "</ul><h2>The decision</h2>"
    yield from _pairs({name: decision[name] for name in ("id", "decided_at", "verdict", "verdict_now", "score")})
    yield from _rows(decision["afterwards"])
    for name, heading in _SECTIONS.items():
        events = [found[name]] if name == "order" else found[name]
        yield f"<h2>{heading}</h2>"
        yield from ("<p>None.</p>",) if not events else ()
        for event in events:
            yield f"<h3>{escape(event['event_id'])}, {escape(event['at'])}</h3>"
            yield from _pairs(event["fields"])
    yield f"<h2>Earlier orders, days counted back from {escape(found['disputed_on'])}</h2>"
    yield from _rows(found["earlier"])
    met = found["visa_ce_3"]
    told = f"met by {', '.join(met['earlier'])}; shared: {', '.join(met['shared'])}" if met["met"] else "not met"
    yield f"<p>Visa Compelling Evidence 3.0: {escape(told)}.</p></body></html>"


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    yield "<table>"
    yield from (f"<tr><th>{escape(name)}</th><td>{_cell(value)}</td></tr>" for name, value in values.items())
    yield "</table>"


def _rows(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "<p>None.</p>"
        return
    yield "<table><tr>" + "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in rows[0]) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>"
    yield "</table>"


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else escape(str(value))
