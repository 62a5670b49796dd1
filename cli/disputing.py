"""`dispute pack`: what a chargeback dispute needs, out of the ledger and the vault, for this user alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import click
import orjson

from cli.opened import decision_of, moment, with_vault
from cli.settings import actor
from engine.archive import Library
from engine.assembly import wall_clock
from engine.dispute import PURPOSE, Disputes
from engine.errors import RequestRefused
from engine.journal import Journal
from engine.ledger import Ledger
from engine.packs.moments import start_of
from engine.vault import Vault

WHAT = "dispute_pack"


@click.group()
def dispute() -> None:
    """What a chargeback dispute needs."""


@dispute.command("pack", short_help="Write what a chargeback dispute needs into a folder.")
@click.argument("id")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--disputed-on", "day", metavar="DAY", help="When the dispute was raised (Asia/Shanghai).")
def pack(id: str, out: Path, day: str | None) -> None:
    """Write the order, its 3-D Secure results, its delivery, and earlier undisputed orders into a new folder.

    \b
    dispute.html     to be read and printed
    dispute.json     the same as data
    record.json      the record of the decision: the bytes that its receipt signs

    It holds personal data: folder and files can be opened by this user alone. That it was made is recorded in the
    ledger first, as an access with the purpose 'dispute' and the login name, which is this machine's word. What the
    ledger does not hold is named under 'missing'. Days are counted back from --disputed-on; without it, from the day
    on which a chargeback on the order became known, and else from today.

    \b
    Examples:
      arbiter dispute pack ev-2026-000184 --out dispute-184
      arbiter dispute pack 01939c3e-6f1c-7d52-a2b7-0d8f6f0b1c11 --disputed-on 2027-02-01 --out dispute
    """
    disputed_on = moment(day, start_of, "--disputed-on")
    if out.exists():
        raise RequestRefused(f"{out} exists already; a pack never overwrites")
    found, leaf = with_vault(lambda ledger, vault: _made(ledger, vault, id, disputed_on))
    out.mkdir(mode=0o700, parents=True)
    _write(out / "dispute.json", orjson.dumps(found, option=orjson.OPT_INDENT_2))
    _write(out / "dispute.html", "\n".join(_page(found)).encode())
    _write(out / "record.json", leaf)
    for each in found["missing"]:
        click.echo(f"missing: {each}")
    click.echo(f"{out}: recorded as access {found['access']}; it holds personal data", err=True)


async def _made(ledger: Ledger, vault: Vault, id: str, disputed_on: int | None) -> tuple[dict[str, Any], bytes]:
    """The pack, once its access is recorded, and the leaf of its decision."""
    stored = await decision_of(ledger, id)
    library = Library(ledger.database, wall_clock)
    found = await Disputes(ledger, vault, library.find).pack(stored, disputed_on, wall_clock())
    opened = [found["order"], *found["payments"], *found["delivery"], *found["after_sale"], *found["outcomes"]]
    entry, by = stored.entry, actor()
    access = await Journal(ledger, wall_clock).access(entry.tenant, WHAT, entry.id, PURPOSE, len(opened), by)
    return {**found, "access": access, "made_by": by.name}, entry.leaf


def _write(path: Path, content: bytes) -> None:
    """A new file for this user alone, whatever the umask."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


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
