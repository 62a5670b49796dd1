"""`keys`: the key file of an installation, and the API keys of its callers."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.pseudonym import pseudonym
from cli.rotate import rotate
from cli.settings import TENANT, actor, must_exist, settings
from cli.tables import stamp
from engine import database as db
from engine.apikeys import ApiKeys
from engine.assembly import wall_clock
from engine.callers import SCOPES
from engine.journal import Journal
from engine.ledger import Ledger
from engine.packs.durations import duration
from engine.vault import KeyFile

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


@click.group()
def keys() -> None:
    """Make the key file, rotate keys; make, list and revoke the keys of callers."""


keys.add_command(pseudonym)
keys.add_command(rotate)


@keys.command("init", short_help="Make the key file.")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def init(path: Path | None) -> None:
    """Make the key file: PATH, or where ARBITER_KEY_FILE says. It never overwrites one.

    Whoever holds this file and the database can read and sign everything; without it nothing personal in the ledger
    can be read again. Keep a copy of it, apart from the backups of the database.

    \b
    Examples:
      arbiter keys init
      arbiter keys init /etc/arbiter/keys.json
    """
    made = path or settings().key_file
    KeyFile.create(made)
    click.echo(f"{made} made. Keep a copy of it in a safe place, apart from the database.", err=True)


@keys.command("create", short_help="Make an API key.")
@click.argument("name")
@click.option("--service", is_flag=True, help="The key of a program, such as a checkout.")
@click.option("--person", is_flag=True, help="The key of a person: only persons decide reviews.")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="What it allows.")
@click.option("--tenant", default=TENANT, show_default=True, help="Whose data it sees.")
@click.option("--expires", metavar="90d", help="How long it works; without it, until it is revoked.")
def create(name: str, service: bool, person: bool, scopes: tuple[str, ...], tenant: str, expires: str | None) -> None:
    """Make an API key for NAME. The key alone goes to standard output, this once; only its hash is kept. Standard error
    says whose it is, what it allows and until when.

    Needs the key file, and the ledger of the server: one that ARBITER_DATABASE_URL names is made where there is none.

    \b
    Examples:
      KEY=$(arbiter keys create checkout --service --scope score --scope outcome)
      arbiter keys create li.si --person --scope audit --scope reveal --expires 90d
    """
    if service == person:
        raise click.UsageError("say whose key it is: either --service or --person")
    for what, text in (("NAME", name), ("--tenant", tenant)):
        if not _NAME.fullmatch(text):
            raise click.UsageError(f"{what} is letters, digits and . _ - @, at most 64 of them")
    now = wall_clock()
    kind, until = "service" if service else "person", None if expires is None else now + _length(expires)
    wanted = (name, kind, tenant, set(scopes), until, actor())
    secret = _with_keys(lambda known: known.create(*wanted), make=db.SETTING in os.environ)
    end = "until it is revoked" if until is None else f"until {stamp(until)}"
    click.echo(f"{name}: a {kind} of the tenant '{tenant}', scopes {', '.join(sorted(set(scopes)))}, {end}", err=True)
    click.echo(secret)


@keys.command("list", short_help="List the API keys.")
def list_keys() -> None:
    """List the API keys: the id to revoke it by, who, tenant, scopes, and until when. Keys themselves are not kept."""
    found = _with_keys(lambda known: known.all())
    if not found:
        click.echo("no keys yet: arbiter keys create NAME --service --scope score", err=True)
        return
    lines = [("id", "name", "kind", "tenant", "scopes", "made", "state"), *map(_line, found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@keys.command("revoke", short_help="Revoke an API key.")
@click.argument("key", metavar="ID|NAME")
def revoke(key: str) -> None:
    """Revoke an API key by its id, or by its name where one key has it. A server that knows it may take it 5 s longer.

    \b
    Examples:
      arbiter keys revoke 5f0c12ab77e0
      arbiter keys revoke checkout
    """
    _with_keys(lambda known: known.revoke(key, actor()))
    click.echo(f"{key} is revoked.", err=True)


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    now = wall_clock()
    state = "works"
    if row["revoked"] is not None:
        state = f"revoked {stamp(row['revoked'])[:10]}"
    elif row["expires"] is not None:
        state = f"{'ended' if row['expires'] <= now else 'until'} {stamp(row['expires'])[:10]}"
    who = (row["name"], row["kind"], row["tenant"], row["scopes"])
    return (row["id"], *who, stamp(row["created"])[:10], state)


def _length(text: str) -> int:
    try:
        return duration(text)
    except ValueError as error:
        raise click.UsageError(f"--expires: {error}") from None


def _with_keys(work: Callable[[ApiKeys], Awaitable[T]], *, make: bool = False) -> T:
    """What `work` gives over the API keys, in a ledger that must be there unless it may be made.

    Needs the key file: a key for a ledger that no server here could open is of no use.
    """
    given = settings()
    file = KeyFile.read(given.key_file)
    if not make:
        must_exist(given)
    db.migrate(given.database_url)

    async def run() -> T:
        ledger = await Ledger.open(given.database_url, file)
        try:
            return await work(ApiKeys(ledger.database, Journal(ledger, wall_clock), wall_clock))
        finally:
            await ledger.close()

    return asyncio.run(run())
