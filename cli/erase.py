"""`erase`: a person, taken out of a ledger that no server serves just now."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from cli.group import counted
from cli.settings import TENANT, actor, must_exist, settings
from cli.tables import stamp
from engine.assembly import Settings, open_arbiter
from engine.claim import TAKEN
from engine.errors import SettingsError, Unavailable

FIELDS = {
    "account": "buyer.account",
    "phone": "buyer.phone",
    "email": "buyer.email",
    "person": "buyer.person",
    "payer": "buyer.payer",
    "company": "merchant.uscc",
}
"""Option → the field whose form of a value it takes. An identity links whatever field of its kind it stood in."""


def _by_identity(command: Any) -> Any:
    for name, path in reversed(FIELDS.items()):
        command = click.option(f"--{name}", metavar="VALUE", multiple=True, help=f"As in {path}.")(command)
    return command


@click.command()
@click.option("--tenant", default=TENANT, show_default=True, help="Whose events it is in.")
@_by_identity
@click.option("--field", "fields", multiple=True, metavar="PATH=VALUE", help="As in any field that names one.")
@click.option("--reason", required=True, help="Why, in a line; it is sealed.")
def erase(tenant: str, fields: tuple[str, ...], reason: str, **given: tuple[str, ...]) -> None:
    """Erase a person of a tenant: sealed data and its keys, pseudonyms, digests, entries of lists, counts in windows.

    Give every identity that you know, one of each sort; run it once more for a second account. With - for a VALUE it is
    read from standard input, a line each, and then in no history of a shell. What a law keeps (policies/retention.yaml)
    is restricted until its term is over, and read by nobody; arbiter retention run ends it.

    No server may serve the ledger meanwhile: its windows would go on counting. Where one does, ask it instead, by
    POST /v1/erasures with a key of scope admin. It is recorded under the name you are logged in with on this machine.

    \b
    Examples:
      arbiter erase --tenant shop-a --account u-20391 --phone 13800138000 --reason "asked for by letter"
      arbiter erase --field merchant.account=shop-77 --reason "left on 2026-11-01, balance paid"
      arbiter erase --email - --reason "asked for by mail"
    """
    wrong = [field for field in fields if "=" not in field]
    if wrong:
        raise click.UsageError("--field takes a field and a value: merchant.account=shop-77")
    asked = [(FIELDS[name], value) for name, values in given.items() for value in values]
    asked += [(path, value) for path, _, value in (field.partition("=") for field in fields)]
    named = dict(asked)
    if len(named) < len(asked):
        raise click.UsageError(
            "one identity of each sort: a second one would be left out; run the command once for each"
        )
    if not reason.strip():
        raise click.UsageError("--reason is empty: say why, in a line")
    if not named:
        raise click.UsageError("say whom: --account, --phone, --email, --person, --payer, --company or --field")
    identities = {path: _value(value) for path, value in named.items()}
    found = settings()
    must_exist(found)
    done = asyncio.run(_erase(replace(found, workers=1), tenant, identities, reason))
    keys, entries = counted(done["keys"], "key"), counted(done["list_entries"], "list entry", "list entries")
    click.echo(f"{counted(done['records'], 'record')} held something of this person.")
    click.echo(f"{counted(done['erased'], 'sealed text')} and {keys} destroyed, {entries} removed.")
    if done["restricted"]:
        until = stamp(done["restricted_until"])[:10]
        click.echo(f"{done['restricted']:,} stay restricted for the law, the last until {until}: nobody reads them.")
    if done["evidence"]:
        copies = counted(done["evidence"], "copy", "copies")
        until = stamp(done["evidence_until"])[:10]
        click.echo(f"{copies} of what was sent in disputes stay for these, the last until {until}.")
    click.echo(f"Recorded as {done['record']}. Let backups from before expire within 30 days.", err=True)


def _value(given: str) -> str:
    return sys.stdin.readline().rstrip("\r\n") if given == "-" else given


async def _erase(given: Settings, tenant: str, identities: Mapping[str, str], reason: str) -> dict[str, Any]:
    try:
        arbiter = await open_arbiter(given)
    except SettingsError as error:
        if TAKEN in str(error):
            raise SettingsError(f"{TAKEN}: ask it for the erasure, by POST /v1/erasures, or stop it first") from None
        raise
    try:
        done = await arbiter.erase_person(tenant, identities, reason, actor())
        if arbiter.store_failures:
            raise Unavailable(
                "the person was erased from the ledger, but the Valkey did not answer and may still count by what was "
                "erased: empty it before the next start (valkey-cli flushdb), and it is rebuilt"
            )
        return done
    finally:
        await arbiter.close()
