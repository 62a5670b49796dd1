"""`subject access`: what is held about one person, for that person."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.folder import new_folder, put
from cli.group import counted
from cli.opened import terms_in_force, with_vault
from cli.settings import TENANT, actor
from engine.assembly import wall_clock
from engine.errors import NotFound
from engine.journal import Journal
from engine.ledger import Ledger
from engine.retention import Retention
from engine.subject import IDENTIFIERS, Found, as_html, as_json, collect, note_access, shown
from engine.vault import Vault

F = TypeVar("F", bound=Callable[..., Any])


@click.group("subject")
def subject() -> None:
    """Requests of persons about their own data."""


def _identifiers(command: F) -> F:
    """Adds an option for each sort of identifier."""
    for kind in reversed(IDENTIFIERS):
        name = f"--{kind.replace('_', '-')}"
        text = f"Known by this {_CALLED[kind]}."
        command = click.option(name, kind, multiple=True, metavar="VALUE", help=text)(command)
    return command


_CALLED = {kind: kind.replace("_", " ") for kind in IDENTIFIERS} | {
    "card": "card reference (card.ref)",
    "payer": "payer id at a wallet",
    "person": "keyed hash of an identity document",
    "account": "account id",
}


@subject.command(short_help="Everything held about one person.")
@click.option("--tenant", default=TENANT, show_default=True, help="Who holds it.")
@_identifiers
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
def access(tenant: str, out: Path, **given: tuple[str, ...]) -> None:
    """Write everything that is held about one person into a new folder, for that person: data.json for machines and
    data.html to read, both in clear, readable by this user alone.

    Give every identifier that is known to be this person's and no other's; check who asks first. With - for a value it
    is read from standard input, a line each, and then in no history of a shell. An entry belongs to the person when it
    has one of them; of what is sealed in it only the part of the subject with that identifier is opened.

    That it was done is recorded before anything is written, with the login name of the operating system.

    \b
    Examples:
      arbiter subject access --tenant shop-a --account u-20391 --phone 13800138000 --out u-20391
      cat mail.txt | arbiter subject access --email - --card card_8f2k1 --out request-17
    """
    asked = {kind: [_value(value) for value in values] for kind, values in given.items() if values}
    with new_folder(out):
        found, terms, record = with_vault(lambda ledger, vault: _access(ledger, vault, tenant, asked))
        told = shown(found, terms, record, wall_clock())
        put(out, {"data.json": as_json(told), "data.html": as_html(told)})
    click.echo(f"{out}: {counted(len(found.entries), 'entry', 'entries')}, recorded as {record}", err=True)
    for each in found.missing:
        click.echo(f"nothing is held under this {each.kind.replace('_', ' ')}", err=True)
    if found.missing:
        click.echo("What a law keeps of somebody who was erased is found by no identifier.", err=True)


def _value(given: str) -> str:
    return sys.stdin.readline().rstrip("\r\n") if given == "-" else given


async def _access(
    ledger: Ledger, vault: Vault, tenant: str, asked: dict[str, list[str]]
) -> tuple[Found, Retention, str]:
    if tenant not in await ledger.tenants():
        raise NotFound(f"there is no entry of a tenant '{tenant}'")
    found = await collect(ledger, vault, tenant, asked)
    terms, _ = await terms_in_force(ledger)
    return found, terms, await note_access(Journal(ledger, wall_clock), vault, found, actor())
