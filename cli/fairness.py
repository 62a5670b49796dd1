"""`fairness`: whether different buyers paid different prices for the same goods on the same day."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from cli.group import counted
from cli.history import History
from cli.language import language_option, said, say, term
from cli.packs import rulebook
from cli.progress import Refusals, progress
from cli.report import grid
from cli.settings import pack_options
from cli.tables import FORMATS, format_of, read_rows
from engine.errors import RequestRefused, did_you_mean
from engine.fairness import FEWEST, FEWEST_STRATA, Comparison, Sold, compared
from engine.mapping import read_map
from engine.money import Money
from engine.packs.moments import day_of
from engine.packs.shares import share
from engine.schema import Event, at_path

NEW = "new"
"""A trait that no field has by itself: whether it is the buyer's first order (`buyer.orders`)."""
TRAITS = ("buyer.membership", NEW, "device.os", "shipping.region")
LAW = ("cn.pipl.24", "cn.cir.9")
LEAST_SHOWN = 0.0001


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Orders.")
@click.option(
    "--map", "mapping", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What its columns mean.",
)  # fmt: skip
@click.option("--by", "traits", multiple=True, metavar="FIELD", help="Compare groups of this field; may be repeated.")
@click.option("--least", default="1%", show_default=True, metavar="SHARE", help="The difference worth knowing.")
@click.option("--alpha", default="5%", show_default=True, metavar="SHARE", help="How often chance may be told as more.")
@click.option("--in-format", type=click.Choice(FORMATS), help="The format, where the name of the file does not say.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pack_options
@language_option
def fairness(
    data: Path,
    mapping: Path,
    traits: tuple[str, ...],
    least: str,
    alpha: str,
    in_format: str | None,
    as_json: bool,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """Whether groups of buyers paid other prices than the rest for the same goods on the same day: members, new ones,
    devices, regions, or the fields of --by (PIPL Art. 24; implementing regulations of the CRPL, Art. 9).

    A group is told to differ where it is more than chance, over all groups together, and more than --least. Exit code 1
    then: somebody has to look at why. Exit code 2 where nothing could be compared. How it is tested:
    docs/processing.md.

    \b
    Examples:
      arbiter fairness --data orders.csv --map orders.map.yaml
      arbiter fairness --data orders.parquet --map orders.map.yaml --by buyer.membership --by device.os --json
    """
    book = rulebook(rules, policies)
    table = read_map(mapping, book.schema)
    known = [path for path, each in book.schema.fields(table.kind).items() if each.type in ("text", "bool")]
    for name in traits:
        if name != NEW and name not in known:
            raise RequestRefused(f"'{name}' is no field with groups; {did_you_mean(name, [NEW, *known])}")
    with data.open("rb") as source:
        table_rows = read_rows(source, str(data), format_of(data, in_format), table.columns, table.check)
    refused, sold, passed = Refusals(), [], 0
    with progress(len(table_rows), "reading") as step:
        for each in History(table, table_rows, book).walk(refused, step):
            if each.about is None:
                unit = _unit(each.event, traits or TRAITS)
                passed += unit is None
                sold += [] if unit is None else [unit]
    refused.check(len(sold) + passed)
    found = compared(sold, _share(alpha, "--alpha"), _share(least, "--least"))
    if as_json:
        click.echo(json.dumps(as_data(found, len(sold), passed), ensure_ascii=False, indent=2))
    else:
        for line in printed(found, len(sold)):
            click.echo(line)
        say(f"{counted(len(sold), 'price')}, {counted(passed, 'row')} without one price of one article", err=True)
    if not any(each.p is not None for each in found):
        raise SystemExit(2)
    raise SystemExit(int(any(each.differs for each in found)))


def _share(text: str, option: str) -> float:
    try:
        return float(share(text))
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def _unit(event: Event, traits: Sequence[str]) -> Sold | None:
    """What a row says: the price of one article, or nothing where it has several and one sum."""
    values = event.values
    items = values.get("items") or []
    goods = items[0].get("sku") if len(items) == 1 else None if items else at_path(values, "listing.id")
    own = items[0].get("price") if len(items) == 1 else None
    single = len(items) != 1 or items[0].get("quantity", 1) == 1
    price = own if own is not None else at_path(values, "amount") if single else None
    if not goods or not isinstance(price, Money) or price.minor <= 0:
        return None
    seller = (items[0].get("seller") if len(items) == 1 else None) or at_path(values, "merchant.id") or ""
    stratum = (str(goods), str(seller), day_of(event.at).isoformat(), price.currency)
    groups = {name: group for name in traits if (group := _group(values, name)) is not None}
    return Sold(stratum, str(at_path(values, "buyer.account") or ""), float(price.minor), groups)


def _group(values: dict[str, Any], name: str) -> str | None:
    if name == NEW:
        orders = at_path(values, "buyer.orders")
        return None if orders is None else "new" if orders == 0 else "known"
    found = at_path(values, name)
    return None if found is None else {True: "yes", False: "no"}.get(found, str(found))


def printed(found: Sequence[Comparison], prices: int) -> Iterator[str]:
    """The comparisons of so many prices for a terminal, the surest first."""
    if not prices:
        yield said("no row says what one article cost: map 'amount' with 'listing.id', or the items with their prices")
        return
    if not found:
        yield said("no field tells groups of buyers apart: map one, or name it with --by")
        return
    head = tuple(map(term, ("trait", "group", "prices", "days of goods", "difference", "interval", "p", "result")))
    yield from grid(head, [_cells(each) for each in found])
    if any(each.differs for each in found):
        yield said(f"somebody has to look at why: {', '.join(LAW)}")


def _cells(each: Comparison) -> tuple[str, ...]:
    sizes = (each.trait, each.group, f"{each.prices:,}", f"{each.strata:,}")
    if each.p is None or each.difference is None:
        return (*sizes, "–", "–", "–", said("too few to tell"))
    p = f"{each.p:.4f}" if each.p >= LEAST_SHOWN else f"<{LEAST_SHOWN}"
    result = term("differs") if each.differs else said("no difference was shown")
    return (*sizes, f"{each.difference:+.2%}", f"{each.low:+.2%} – {each.high:+.2%}", p, result)


def as_data(found: Sequence[Comparison], prices: int, passed: int) -> dict[str, Any]:
    """The same for programs. Shares are decimal text."""
    return {
        "prices": prices,
        "rows_without_a_price": passed,
        "law": list(LAW),
        "least_prices": FEWEST,
        "least_strata": FEWEST_STRATA,
        "groups": [
            {
                "trait": each.trait,
                "group": each.group,
                "prices": each.prices,
                "strata": each.strata,
                **{
                    name: None if value is None else f"{value:.6f}"
                    for name in ("difference", "low", "high", "p")
                    for value in (getattr(each, name),)
                },
                "differs": each.differs,
            }
            for each in found
        ],
    }
