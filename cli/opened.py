"""The ledger and the vault of the settings, opened for one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from cli.settings import must_exist, settings
from engine.assembly import open_vault
from engine.errors import NotFound
from engine.ledger import Ledger, Stored
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
