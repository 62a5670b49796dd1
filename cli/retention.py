"""`retention run`: what is past its term ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from cli.group import counted
from cli.packs import rulebook
from cli.settings import actor, must_exist, pack_options, settings
from engine import database as db
from engine.assembly import wall_clock
from engine.expiry import Due, Expiry
from engine.journal import EVERYONE, Journal
from engine.ledger import Ledger
from engine.vault import KeyFile


@click.group()
def retention() -> None:
    """End what is past its term."""


@retention.command("run", short_help="End what is past its term.")
@pack_options
@click.option("--dry-run", is_flag=True, help="Say what would end, and end nothing.")
def run(rules: Path | None, policies: Path | None, dry_run: bool) -> None:
    """End what policies/retention.yaml says is past its term: sealed personal data, pseudonyms, digests; and what a law
    kept of erased persons until now. Leaves and proofs stay.

    It may run beside servers, once a day for example. What it ends is recorded before, in numbers, under the name you
    are logged in with on this machine.

    \b
    Examples:
      arbiter retention run --dry-run
      arbiter retention run
    """
    given = settings(rules, policies)
    keys = KeyFile.read(given.key_file)
    must_exist(given)
    terms = rulebook(rules, policies).retention
    if not terms.classes:
        click.echo("No file says how long what is kept (retention: …): only what a law kept until now ends.", err=True)
    db.migrate(given.database_url)
    by = actor()

    async def work() -> None:
        ledger = await Ledger.open(given.database_url, keys)
        try:
            expiry = Expiry(ledger, terms, Journal(ledger, wall_clock), wall_clock)
            for tenant in await ledger.tenants():
                if tenant != EVERYONE:
                    due = await (expiry.due(tenant) if dry_run else expiry.run(tenant, by))
                    click.echo(f"{tenant}: {_told(due)} {'would end' if dry_run else 'ended'}.")
        finally:
            await ledger.close()

    asyncio.run(work())


def _told(due: Due) -> str:
    return ", ".join(
        (
            counted(due.personal, "sealed text"),
            counted(due.pseudonyms, "record's pseudonyms", "records' pseudonyms"),
            counted(due.digests, "digest"),
            f"{counted(due.restricted, 'text')} kept for the law alone",
            counted(due.evidence, "copy of a dispute", "copies of disputes"),
        )
    )
