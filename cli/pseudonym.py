"""`keys pseudonym`: the name under which the ledger keeps a person, for exceptions and for looking one up."""

from __future__ import annotations

import sys

import click

from cli.packs import rulebook
from cli.settings import settings
from engine.errors import RequestRefused, did_you_mean
from engine.schema import Schema
from engine.vault import KeyFile, Names


@click.command(short_help="The pseudonym of a person, card, device …")
@click.argument("path")
@click.argument("value")
@click.option("--tenant", default="default", show_default=True, help="Whose events it is in.")
def pseudonym(path: str, value: str, tenant: str) -> None:
    """Print the pseudonym that events of a tenant get for VALUE in the field PATH. With - for VALUE it is read from
    standard input, and then in no history of a shell.

    An exception names a person so: subject: {buyer.account: "pseudonym:…"}. Each tenant has its own pseudonyms.

    \b
    Examples:
      arbiter keys pseudonym buyer.account u-777
      arbiter keys pseudonym ip 203.0.113.9 --tenant shop-a
      cat address.txt | arbiter keys pseudonym buyer.email -
    """
    given = sys.stdin.readline().rstrip("\r\n") if value == "-" else value
    namespace, form = identity(rulebook(None, None).schema, path, given)
    click.echo(Names(KeyFile.read(settings().key_file)).pseudonym(tenant, namespace, form))


def identity(schema: Schema, path: str, value: str) -> tuple[str, str]:
    """The namespace and the normal form that an event gets for `value` in the field `path`.

    Raises RequestRefused for a field that links nothing, EventRefused for a value that no event may have there.
    """
    linking = {name: kind for kind in schema.kinds for name, field in schema.body_fields(kind).items() if field.entity}
    if path not in linking:
        hint = did_you_mean(path, linking) or "see 'linked by' in docs/events.md"
        raise RequestRefused(f"no events are linked by a field '{path}'; {hint}")
    kind = linking[path]
    event = schema.build({**schema.sample_fields(kind), path: value}, received_at=0, kind=kind)
    for name, namespace, form in schema.split(event)[2]:
        if name == path:
            return namespace, form
    raise RequestRefused(f"{path}: nothing is left of this value that could link events")
