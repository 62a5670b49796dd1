"""The ledger and the vault of the settings, opened for one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from cli.settings import must_exist, settings
from engine.archive import Library
from engine.assembly import open_vault, wall_clock
from engine.errors import NotFound
from engine.force import last_rulebook
from engine.ledger import Ledger, Stored
from engine.retention import Retention
from engine.vault import KeyFile, Vault

T = TypeVar("T")


def with_vault(work: Callable[[Ledger, Vault], Awaitable[T]]) -> T:
    """What `work` gives over the ledger in the settings, which must exist, and its vault."""
    given = settings()
    keys = KeyFile.read(given.key_file)
    must_exist(given)

    async def run() -> T:
        ledger = await Ledger.open(given.database_url, keys)
        try:
            return await work(ledger, open_vault(given, keys, ledger.database))
        finally:
            await ledger.close()

    return asyncio.run(run())


def with_ledger(work: Callable[[Ledger], Awaitable[T]]) -> T:
    """The same for what needs no vault."""
    return with_vault(lambda ledger, _: work(ledger))


async def terms_in_force(ledger: Ledger) -> tuple[Retention, str]:
    """How long what is kept, by the rulebook that was in force last, and the hash of that one; no terms where none
    was. PackError when this version cannot read it any more."""
    library = Library(ledger.database, wall_clock)
    # Where nothing was decided yet, the one that would.
    named = await last_rulebook(ledger) or await library.newest()
    return (Retention({}), "") if named is None else ((await library.find(named)).retention, named)


def moment(text: str | None, read: Callable[[Any], int], option: str) -> int | None:
    """The instant that an option names, UTC microseconds, read by `read`. UsageError for another text."""
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


async def decision_of(ledger: Ledger, id: str) -> Stored:
    """The decision with this id, or on the event with this id, whosever it is. NotFound when there is none."""
    for tenant in await ledger.tenants():
        stored = await ledger.get(tenant, id) or await ledger.find(tenant, id)
        if stored is not None and stored.entry.kind == "decision":
            return stored
    raise NotFound(f"there is no decision with the id '{id}', nor one on an event with this id")
