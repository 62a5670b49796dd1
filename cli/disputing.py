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
from cli.opened import decision_of, moment, terms_in_force, with_vault
from cli.settings import actor
from cli.tables import stamp
from engine.archive import Library
from engine.assembly import wall_clock
from engine.errors import NotFound
from engine.evidence import Copied, Evidence
from engine.ledger import Ledger
from engine.packs.moments import start_of
from engine.vault import Vault


@click.group()
def dispute() -> None:
    """What a chargeback dispute needs."""


@dispute.command("pack", short_help="Write what a chargeback dispute needs into a folder.")
@click.argument("id")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--disputed-on", "day", metavar="DAY", help="When the dispute was raised (Asia/Shanghai).")
@click.option("--as-sent", is_flag=True, help="The sealed copy of the last pack, whatever was erased since.")
@click.option("--access", metavar="ID", help="With --as-sent: the copy that this access made, not the last one.")
def pack(id: str, out: Path, day: str | None, as_sent: bool, access: str | None) -> None:
    """Write the order, its 3-D Secure results, its delivery, and earlier undisputed orders into a new folder.

    \b
    dispute.html     to be read and printed
    dispute.json     the same as data
    record.json      the record of the decision: the bytes that its receipt signs

    It holds personal data: folder and files can be opened by this user alone. That it was made is recorded in the
    ledger first, as an access with the purpose 'dispute' and the login name, which is this machine's word. What the
    ledger does not hold is named under 'missing'. Days are counted back from --disputed-on; without it, from the day
    on which the first chargeback on the order became known, and else from today.

    Where a dispute is known (a chargeback was reported, or --disputed-on says the day) and policies/retention.yaml says
    how long what is sent is kept, a sealed copy stays in the vault, also when the person is erased: --as-sent writes it
    again. Nothing else opens it, and arbiter dispute close ends it. Each pack has a copy of its own.

    \b
    Examples:
      arbiter dispute pack ev-2026-000184 --out dispute-184
      arbiter dispute pack ev-2026-000184 --as-sent --out arbitration-184
      arbiter dispute pack 01939c3e-6f1c-7d52-a2b7-0d8f6f0b1c11 --disputed-on 2027-02-01 --out dispute
    """
    disputed_on = moment(day, start_of, "--disputed-on")
    if as_sent and day is not None:
        raise click.UsageError("--as-sent writes what was sent: its days are counted already, leave --disputed-on out")
    if access is not None and not as_sent:
        raise click.UsageError("--access names a copy: it goes with --as-sent")
    with new_folder(out):
        made = with_vault(partial(_again, id=id, access=access) if as_sent else partial(_sent, id=id, day=disputed_on))
        data, page = orjson.dumps(made.pack, option=orjson.OPT_INDENT_2), "\n".join(_page(made.pack)).encode()
        put(out, {"dispute.json": data, "dispute.html": page, "record.json": made.leaf})
    for each in made.pack["missing"]:
        click.echo(f"missing: {each}")
    click.echo(f"{out}: recorded as access {made.access}; it holds personal data", err=True)
    click.echo(made.told, err=True)


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


def _evidence(ledger: Ledger, vault: Vault) -> Evidence:
    return Evidence(ledger, vault, Library(ledger.database, wall_clock).find, wall_clock)


class _Made(NamedTuple):
    """A pack, the leaf of its decision, the id of this access, and what is said of the copy."""

    pack: dict[str, Any]
    leaf: bytes
    access: str
    told: str


NO_COPY: Mapping[Copied, str] = {
    "no_term": "no copy is kept: the retention file in force has no term for disputes",
    "no_dispute": "no copy is kept: no chargeback is known of; --disputed-on says when a dispute was raised",
    "erased": "something was erased: no copy of this pack is kept. Those from before stay, --as-sent writes them again",
}


async def _sent(ledger: Ledger, vault: Vault, id: str, day: int | None) -> _Made:
    stored, (terms, _) = await decision_of(ledger, id), await terms_in_force(ledger)
    sent = await _evidence(ledger, vault).send(stored, day, terms.disputes, actor())
    if terms.disputes is None or sent.copied != "kept":
        told = NO_COPY[sent.copied]
    else:
        until = stamp(wall_clock() + terms.disputes.kept)[:10]
        told = f"a sealed copy is kept until {until}: --as-sent writes it again, arbiter dispute close ends it"
    return _Made(sent.pack, stored.entry.leaf, sent.access, told)


async def _again(ledger: Ledger, vault: Vault, id: str, access: str | None) -> _Made:
    stored = await decision_of(ledger, id)
    again = await _evidence(ledger, vault).again(stored, access, actor())
    others = "" if len(again.copies) == 1 else f"; --access names another: {', '.join(again.copies)}"
    told = f"as it was sent at {stamp(again.at)} by {again.pack['made_by']}{others}"
    return _Made(again.pack, stored.entry.leaf, again.access, told)


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
    if met["met"]:
        told = f"met by {', '.join(met['earlier'])}; shared: {', '.join(met['shared'])}"
        yield f"<p>Visa Compelling Evidence 3.0: {escape(told)}.</p>"
    yield f"<p>Checked before it was taken: decision {escape(decision['id'])}, {escape(decision['decided_at'])}.</p>"
    yield "</body></html>"


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
