"""`keys rotate`: new keys in place of old ones, beside running servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import click

from cli.group import counted
from cli.settings import actor, must_exist, settings
from engine import database as db
from engine.assembly import open_vault, wall_clock
from engine.callers import By
from engine.journal import EVERYONE, Journal
from engine.ledger import Ledger
from engine.rotation import Rotation
from engine.vault import KeyFile

LEVELS = ("kms", "tenant", "subjects")


@click.command(short_help="New keys in place of old ones.")
@click.argument("level", type=click.Choice(LEVELS))
@click.option("--tenant", help="Of this tenant alone; without it, of all. Not with kms.")
@click.option("--from", "before", default="file", metavar="SERVICE", help="With kms: the key service that you leave.")
def rotate(level: str, tenant: str | None, before: str) -> None:
    """Rotate the keys of one level, also beside running servers. What was interrupted goes on when it is run again.

    \b
    kms        every tenant's key wrapped anew by the key service's key of now. With a KMS or Vault rotate there
               first; the key file gets a new key here, and keeps the old ones for what they wrapped
    tenant     a new key of the tenant, and all its data keys wrapped by that one
    subjects   new data keys, and every ciphertext sealed anew; the old data keys are destroyed

    Each is recorded under the name you are logged in with on this machine. docs/keys.md says when to do which.

    \b
    Examples:
      arbiter keys rotate kms
      ARBITER_KEY_SERVICE=aws-kms:alias/arbiter arbiter keys rotate kms --from vault-transit:transit/arbiter
      arbiter keys rotate tenant --tenant shop-a
      arbiter keys rotate subjects
    """
    if level == "kms" and tenant is not None:
        raise click.UsageError("the key service's key is of no tenant: leave --tenant out")
    given = settings()
    keys = KeyFile.read(given.key_file)
    must_exist(given)
    db.migrate(given.database_url)
    by = actor()

    async def run() -> None:
        ledger = await Ledger.open(given.database_url, keys)
        vault = open_vault(given, keys, ledger.database, before)
        try:
            rotation = Rotation(ledger, vault, Journal(ledger, wall_clock))
            for what, of, work in _steps(rotation, level, [tenant] if tenant else await ledger.tenants()):
                count = await work(by)
                click.echo(f"{of}{counted(count, what)} under new keys.")
        finally:
            vault.tenants.close()
            await ledger.close()

    asyncio.run(run())


def _steps(rotation: Rotation, level: str, tenants: list[str]) -> list[tuple[str, str, Callable[[By], Awaitable[int]]]]:
    """(what is counted, of whom, what to do) of each step."""
    if level == "kms":
        return [("tenant key", "", rotation.kms)]
    one, what = (rotation.tenant, "data key") if level == "tenant" else (rotation.subjects, "sealed text")
    # What is recorded for all tenants is of none, and has no keys.
    named = [tenant for tenant in tenants if tenant != EVERYONE]
    return [(what, f"{tenant}: ", partial(one, tenant)) for tenant in named]
