"""`audit research`: decisions as an anonymised table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from cli.group import counted
from cli.opened import moment, with_ledger
from cli.packs import rulebook
from cli.settings import TENANT, actor
from cli.views import as_text
from engine.assembly import wall_clock
from engine.errors import RequestRefused
from engine.jcs import canonical
from engine.journal import Journal
from engine.ledger import Ledger
from engine.packs.moments import end_of, start_of
from engine.research import SENSITIVE, Anonymous, Ask, gather

RESEARCH = "research"


@click.command("research", short_help="Decisions as an anonymised table.")
@click.option("--from", "since", metavar="DAY", required=True, help="First day (Asia/Shanghai) or instant.")
@click.option("--to", "until", metavar="DAY", required=True, help="Last day, included, or the instant up to which.")
@click.option("--tenant", default=TENANT, show_default=True, help="Whose decisions.")
@click.option("--kind", default="transaction", show_default=True, help="Which kind of event.")
@click.option("--quasi", multiple=True, required=True, metavar="COLUMN[:LEVEL]", help="'time', or a public field.")
@click.option("--sensitive", multiple=True, required=True, type=click.Choice(list(SENSITIVE)), help="What is told.")
@click.option("--k", "k", type=click.IntRange(2), default=10, show_default=True, help="Persons in a class at least.")
@click.option("--l", "diverse", type=click.IntRange(1), default=2, show_default=True, help="Different values at least.")
@click.option("--most-left-out", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Share of rows.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new .csv or .parquet file.")
def research(
    since: str,
    until: str,
    tenant: str,
    kind: str,
    quasi: tuple[str, ...],
    sensitive: tuple[str, ...],
    k: int,
    diverse: int,
    most_left_out: float,
    out: Path,
) -> None:
    """Write decisions as a table in which nobody can be told from K others: a row for each, its columns made coarser.

    Columns have levels, the finest first: time: week, month, quarter, year; amounts and numbers: band (1, 2, 5, 10 …),
    decade; countries: exact, region; other text: exact, prefix (electronics/phones → electronics); yes or no: exact.
    Without a level it is the finest. Rows in classes of fewer than K persons, or of fewer than L values of a sensitive
    column, are left out. Where that is more than --most-left-out, or nothing is left, no file is written and the exit
    code is 1.

    No id, pseudonym, exact time, personal field or identifier can be in it. That it was made is recorded first.

    \b
    Examples:
      arbiter audit research --from 2026-10-01 --to 2026-12-31 --quasi time:month --quasi amount:band \\
        --quasi ip_country:region --sensitive verdict --out quarter.csv
      arbiter audit research --from 2026-01-01 --to 2026-12-31 --kind listing --quasi listing.category:prefix \\
        --sensitive verdict --sensitive score --k 20 --l 3 --out listings.parquet
    """
    if out.suffix not in (".csv", ".parquet"):
        raise RequestRefused(f"{out} does not say a format: end it in .csv or .parquet")
    if out.exists():
        raise RequestRefused(f"{out} exists already; an export never overwrites")
    begin, end = moment(since, start_of, "--from"), moment(until, end_of, "--to")
    assert begin is not None, "it is required"
    columns = tuple((name, level) for name, _, level in (each.partition(":") for each in quasi))
    ask = Ask(kind, columns, tuple(sensitive), k, diverse, most_left_out)
    table = with_ledger(lambda ledger: _made(ledger, tenant, begin, end, ask))
    out.write_bytes(_csv(table) if out.suffix == ".csv" else _parquet(table))
    click.echo(
        f"{out}: {counted(len(table.rows), 'row')}, k = {table.k}, l = {table.diverse}, {table.left_out:,} left out",
        err=True,
    )


async def _made(ledger: Ledger, tenant: str, since: int, until: int | None, ask: Ask) -> Anonymous:
    table = await gather(ledger, rulebook(None, None).schema, tenant, since, until, ask)
    asked = {
        "since": since,
        "until": until,
        "kind": ask.kind,
        "columns": list(table.columns),
        "k": table.k,
        "l": table.diverse,
        "left_out": table.left_out,
    }
    journal = Journal(ledger, wall_clock)
    await journal.access(tenant, RESEARCH, canonical(asked).decode(), "", len(table.rows), actor())
    return table


def _csv(table: Anonymous) -> bytes:
    """UTF-8 with a mark, for spreadsheets; what they would take for something else begins with an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.columns)
    writer.writerows([[as_text(cell) for cell in row] for row in table.rows])
    return text.getvalue().encode("utf-8-sig")


def _parquet(table: Anonymous) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(column, pa.string()) for column in zip(*table.rows, strict=True)]
    to = io.BytesIO()
    pq.write_table(pa.table(columns, names=list(table.columns)), to, compression="zstd")
    return to.getvalue()
