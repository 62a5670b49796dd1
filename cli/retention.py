"""`retention run`: what is past its term ends."""

from __future__ import annotations

import click

from cli.group import counted
from cli.opened import terms_in_force, with_ledger
from cli.settings import actor, must_exist, settings
from engine import database as db
from engine.assembly import wall_clock
from engine.expiry import Due, Expiry
from engine.journal import EVERYONE, Journal
from engine.ledger import Ledger


@click.group()
def retention() -> None:
    """End what is past its term."""


@retention.command("run", short_help="End what is past its term.")
@click.option("--dry-run", is_flag=True, help="Say what would end, and end nothing.")
def run(dry_run: bool) -> None:
    """End what policies/retention.yaml says is past its term: sealed personal data, pseudonyms, digests; and what a law
    kept of erased persons until now. Leaves and proofs stay.

    The terms are those of the rulebook in force, as the ledger has it: a file that was changed since counts once it is
    reloaded. It may run beside servers, once a day for example. What it ends is recorded before, in numbers, with that
    rulebook, under the name you are logged in with on this machine.

    \b
    Examples:
      arbiter retention run --dry-run
      arbiter retention run
    """
    given, by = settings(), actor()
    must_exist(given)
    db.migrate(given.database_url)

    async def work(ledger: Ledger) -> None:
        terms, named = await terms_in_force(ledger)
        if not terms.classes:
            click.echo("Nothing in force says how long what is kept: only what a law kept until now ends.", err=True)
        expiry = Expiry(ledger, terms, Journal(ledger, wall_clock), wall_clock, named)
        for tenant in await ledger.tenants():
            if tenant != EVERYONE:
                due = await (expiry.due(tenant) if dry_run else expiry.run(tenant, by))
                click.echo(f"{tenant}: {_told(due)} {'would end' if dry_run else 'ended'}.")

    with_ledger(work)


def _told(due: Due) -> str:
    return ", ".join(
        (
            counted(due.personal, "sealed text"),
            counted(due.pseudonyms, "record's pseudonyms", "records' pseudonyms"),
            counted(due.digests, "digest"),
            f"{counted(due.restricted, 'text')} kept for the law alone",
            counted(due.evidence, "copy of a dispute", "copies of disputes"),
            counted(due.reasons, "reason"),
        )
    )
