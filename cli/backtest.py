"""`backtest`: what a rulebook would have done with a history, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import pyarrow as pa

from cli.history import History
from cli.language import language_option, say
from cli.oddness import percentiles
from cli.packs import rulebook
from cli.progress import Refusals, progress
from cli.replay import World, degraded
from cli.revision import at_revision
from cli.settings import pack_options, settings
from cli.tables import FORMATS, format_of, read_rows
from cli.warehouses import engine_options, opened
from engine.backtest import Asked, Collector, Figures, Found, Judged, Past, find, heeded, judge, measure
from engine.columns import Warehouse
from engine.detectors import Models, read_models
from engine.errors import RequestRefused, did_you_mean, with_article
from engine.expr import value_of
from engine.expr.check import expression
from engine.mapping import Table, read_map
from engine.packs.durations import duration
from engine.rulebook import Rulebook
from engine.schema import FRAUD

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
COUNTRIES = ("card.country", "ip_country", "shipping.country", "billing.country", "buyer.country")


@dataclass(frozen=True)
class Run:
    """One rulebook over one history: what was found, judged and measured, and how long each part took (seconds)."""

    book: Rulebook
    table: Table
    past: Past
    found: Found
    judged: Judged
    figures: Figures
    refused: int
    seconds: dict[str, float]


@click.command()
@click.option("--data", required=True, type=_FILE, help="A table: CSV, TSV, JSON lines or Parquet.")
@click.option("--map", "mapping", required=True, type=_FILE, help="Which columns make which fields: docs/cli.md.")
@click.option("--in-format", type=click.Choice(FORMATS), help="Format of the table, where its name does not say.")
@click.option("--rulebook", "revision", metavar="REV", help="A revision of git of the folders, instead of as they are.")
@click.option("--label-delay", metavar="7d", help="How long after its event an outcome is known, instead of the map's.")
@click.option("--by", "split", metavar="FIELD", multiple=True,
              help="Figures by the values of a field; without it by each country that the map gives.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for report.html and the Parquet tables; it must be new or empty.")  # fmt: skip
@engine_options
@pack_options
@language_option
def backtest(
    data: Path,
    mapping: Path,
    in_format: str | None,
    revision: str | None,
    label_delay: str | None,
    split: tuple[str, ...],
    out: Path | None,
    engine: str,
    spark_url: str | None,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """What a rulebook would have done with a history: fraud stopped and missed, good orders hit, what each rule adds.

    The table is read as `arbiter score` reads it, and every event gets the findings and the verdict it gets there: in
    the order of time, with windows that hold what was known at each moment, and outcomes only after their delay. It is
    computed a column at a time. What columns cannot say exactly, such as patterns, the engine itself is asked about, at
    the events where it matters.

    Without --out the figures are printed; with it they are in a report to open in a browser, too, and each event's
    verdict, each rule, each threshold and each part in a Parquet table.

    DuckDB computes the columns in this process. With --engine spark Apache Spark does, with the same findings: in this
    process, or where --spark-url says.

    \b
    Examples:
      arbiter backtest --data orders.parquet --map orders.map.yaml
      arbiter backtest --data orders.csv --map orders.map.yaml --out june --by card.country --by channel
      arbiter backtest --data orders.csv --map orders.map.yaml --rulebook main~1 --label-delay 30d
      arbiter backtest --data orders.parquet --map orders.map.yaml --engine spark --spark-url spark://host:7077
    """
    from cli.report import printed, write_report

    kind = format_of(data, in_format)
    if out is not None and out.exists() and any(out.iterdir()):
        raise RequestRefused(f"--out {out} is not empty: choose another folder")
    with books(revision, rules, policies) as book, opened(engine, spark_url) as here:
        run = backtested(here, book, data, kind, mapping, delay=label_delay, split=split)
        for line in printed(run):
            click.echo(line)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            write_report(run, out)
            say(f"\n{out}/report.html and the tables beside it", err=True)


@contextmanager
def books(revision: str | None, rules: Path | None, policies: Path | None) -> Iterator[Rulebook]:
    """The rulebook of the settings, or the folders as they were at a revision."""
    given = settings(rules, policies)
    if revision is None:
        yield rulebook(rules, policies)
        return
    with at_revision(revision, given.rules, given.policies) as (then_rules, then_policies):
        yield rulebook(then_rules, then_policies)


def backtested(
    here: Warehouse,
    book: Rulebook,
    data: Path,
    kind: Any,
    mapping: Path,
    *,
    delay: str | None = None,
    split: Sequence[str] = (),
) -> Run:
    """One rulebook over one table."""
    table = delayed(read_map(mapping, book.schema), delay)
    models = _models(book, table)
    with data.open("rb") as source:
        rows = read_rows(source, str(data), kind, table.columns, table.check)
    history, size = History(table, rows, book), len(rows)
    clock = _Clock()
    causes = degraded(book, book.kinds[table.kind], models, book.kinds[table.kind].everyone)
    parts = _split(book, table, split)
    past, refused = _collected(Collector(here, book, table.kind, causes, parts), book, models, table, history, size)
    clock.lap("reading")
    policy = book.kinds[table.kind].policy
    assert policy is not None, "asked for before"
    found = find(past, book, heeded(policy), lambda asked: _answered(asked, book, history, size, clock))
    clock.lap("findings")
    judged = judge(past, book, found, causes)
    clock.lap("verdicts")
    rules, labelled = book.kinds[table.kind].rules, table.delay is not None
    figures = measure(past, judged, rules, labelled=labelled, refunds=table.has_refunds, tiers=table.has_tiers)
    clock.lap("figures")
    return Run(book, table, past, found, judged, figures, refused, clock.seconds)


class _Clock:
    """Seconds by part; a part inside another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def delayed(table: Table, delay: str | None) -> Table:
    """The table with another delay of its labels, where one is given. Raises RequestRefused."""
    if delay is None:
        return table
    if table.delay is None:
        raise RequestRefused("--label-delay: the mapping file has no outcome: whose label is it?")
    try:
        return replace(table, delay=duration(delay))
    except ValueError as error:
        raise RequestRefused(f"--label-delay: {error}") from None


def _models(book: Rulebook, table: Table) -> Models:
    if book.kinds[table.kind].policy is None:
        judged = ", ".join(book.judged) or "none"
        raise RequestRefused(f"no policy judges {with_article(table.kind)}; kinds that are judged: {judged}")
    return read_models(settings().model_dir, book.detectors, strict=True)


def _split(book: Rulebook, table: Table, asked: Sequence[str]) -> list[str]:
    fields = book.schema.fields(table.kind)
    for path in asked:
        if path not in fields:
            hint = did_you_mean(path, fields) or "docs/events.md has all"
            raise RequestRefused(f"--by {path}: {with_article(table.kind)} has no such field; {hint}")
        if fields[path].privacy != "public":
            raise RequestRefused(f"--by {path}: it holds personal data, and figures are for many eyes")
    return list(dict.fromkeys(asked)) or [path for path in COUNTRIES if path in fields and table.sources(path)]


def _collected(
    collector: Collector, book: Rulebook, models: Models, table: Table, history: History, size: int
) -> tuple[Past, int]:
    """The table as columns, and how many rows are no events."""
    refused, bad = Refusals(), table.outcome_is in FRAUD
    with progress(size, "reading") as step:
        for each, anomaly in percentiles(history.walk(refused, step), book, table.kind, models):
            if each.about is None:
                refunded = each.beside.refunded is True
                collector.event(
                    each.row, each.event, each.labelled and bad,
                    refunded=refunded, tier=each.beside.tier, anomaly=anomaly,
                )  # fmt: skip
            else:
                collector.outcome(each.event, each.about)
    past = collector.done()
    refused.check(past.events)
    return past, refused.rows


def _answered(asked: Asked, book: Rulebook, history: History, size: int, clock: _Clock) -> Any:
    """The real engine over the same history: answers at the events that are asked about."""
    clock.lap("findings")
    # Without windows no event has to do with another.
    alone = None if asked.windows else asked.rows
    world = World(book, windows=asked.windows)
    tests = [value_of(expression(question.node), asked.windows) for question in asked.questions]
    rows: list[int] = []
    answers: list[list[Any]] = []
    gaps: list[str] = []
    with progress(size if alone is None else len(alone), "asking") as step:
        for row, event, about, *_ in history.walk(lambda _: None, step, rows=alone):
            if about is not None:
                world.report(event, about)
            elif asked.rows is None or row in asked.rows:
                seen = world.see(event)
                rows.append(row)
                answers.append([test(event.values, seen.reading.values, seen.env) for test in tests])
                causes = dict.fromkeys(cause for _, cause in seen.reading.gaps if cause != "thin_identity")
                gaps.append("".join(f"{cause}," for cause in causes))
            else:
                world.feed(event)
    columns = list(zip(*answers, strict=True)) or [()] * len(tests)
    found = {f"e{number}": pa.array(column, pa.bool_()) for number, column in enumerate(columns)}
    clock.lap("asking the engine")
    return pa.table({"row": pa.array(rows, pa.int64()), "gaps": pa.array(gaps, pa.string()), **found})
