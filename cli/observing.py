"""A labelled history, and what the engine says of each of its events: it is asked in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cli.backtest import delayed
from cli.group import counted
from cli.history import History
from cli.oddness import percentiles
from cli.packs import rulebook
from cli.progress import Refusals, progress
from cli.replay import World
from cli.settings import settings
from cli.tables import Rows, format_of, read_rows
from engine.detectors import ANOMALY, NO_MODELS, Models, read_models
from engine.errors import RequestRefused, with_article
from engine.expr import Expression, value_of
from engine.mapping import Table, read_map
from engine.money import Money
from engine.packs.moments import DAY, day_of, start_of
from engine.rulebook import Rulebook
from engine.schema import FRAUD
from engine.schema.nesting import at_path
from engine.tuning import Periods, periods


@dataclass(frozen=True)
class Sample:
    """A rulebook and a table of events of which it is known what became of them. Outcomes are known `delay` after
    their event; the part to fit on ends at `until` (None: after two thirds). Microseconds."""

    book: Rulebook
    rules: Path
    policies: Path
    table: Table
    data: Path
    mapping: Path
    form: Any
    delay: int
    label_delay: str | None
    until: int | None

    @property
    def rows(self) -> Rows:
        """The rows of the table."""
        with self.data.open("rb") as source:
            return read_rows(source, str(self.data), self.form, self.table.columns, self.table.check)

    @cached_property
    def models(self) -> Models:
        """The anomaly models of the rulebook. Raises PackError where one cannot be used."""
        return read_models(settings().model_dir, self.book.detectors, strict=True)

    def champions(self) -> Models:
        """The same. Raises RequestRefused where none looks at the events of the table."""
        kind, models = self.table.kind, self.models
        if kind not in models.champions:
            why = models.missing.get(kind, "no file in the policies declares one")
            raise RequestRefused(f"no anomaly model looks at {with_article(kind)}: {why} (docs/models.md)")
        return models

    def periods(self, at: Any, bad: Any, fewest: int = 1) -> Periods:
        """The two parts of events at these times, of which `bad` were fraud: at least `fewest` in the first part, one
        in the later. Raises RequestRefused with all that is missing."""
        found = periods(at, _two_thirds(at) if self.until is None else self.until, self.delay)
        problems = [*self._unfit(bad[found.fit], fewest), *self._unreported(bad[found.later])]
        if problems:
            raise RequestRefused(
                f"{'; '.join(problems)}: the history goes from {day_of(found.first)} to {day_of(found.last)}, "
                f"the first part ends before {day_of(found.until)}, and outcomes are known {self.delay / DAY:g} days "
                "after their event; choose another --fit-until, or take a longer history"
            )
        return found

    def _unfit(self, bad: Any, fewest: int) -> Iterator[str]:
        kind, frauds = self.table.kind, int(bad.sum())
        among = counted(len(bad), kind)
        if not len(bad):
            yield f"there is no {kind} to fit on"
        elif not frauds:
            yield f"there is no fraud among the {among} to fit on"
        elif frauds < fewest:
            few = counted(frauds, "fraud")
            yield f"only {few} among the {among} to fit on, and what fewer than {fewest} have in common is luck"

    def _unreported(self, bad: Any) -> Iterator[str]:
        kind = self.table.kind
        if not len(bad):
            yield f"there is no {kind} to report on"
        elif not bad.any():
            yield f"there is no fraud among the {counted(len(bad), kind)} to report on"


def _two_thirds(at: Any) -> int:
    """The beginning of the day on which two thirds of the time are over."""
    first, last = int(at.min()), int(at.max())
    return start_of(day_of(first + (last - first) * 2 // 3).isoformat())


def opened(
    data: Path,
    mapping: Path,
    form: str | None = None,
    label_delay: str | None = None,
    until: int | None = None,
    rules: Path | None = None,
    policies: Path | None = None,
) -> Sample:
    """What the options name. Raises PackError and RequestRefused."""
    given = settings(rules, policies)
    book = rulebook(rules, policies)
    table = delayed(read_map(mapping, book.schema), label_delay)
    if table.delay is None:
        raise RequestRefused(f"{mapping}: no outcome, so nobody knows what was fraud; add 'outcome:' (docs/cli.md)")
    if table.outcome_is not in FRAUD:
        known = ", ".join(sorted(FRAUD))
        raise RequestRefused(f"{mapping}: the outcome '{table.outcome_is}' is no fraud; those that are: {known}")
    where = (given.rules, given.policies)
    return Sample(book, *where, table, data, mapping, format_of(data, form), table.delay, label_delay, until)


@dataclass(frozen=True, eq=False)
class Seen:
    """Events in the order of time: when (microseconds), whether they turned out to be fraud, what they are worth in
    minor units of `currency`, and a list of values for each expression (None where it is unknown)."""

    at: Any
    bad: Any
    worth: Any
    columns: Sequence[Sequence[Any]]
    currency: str


def observe(sample: Sample, asked: Sequence[Expression]) -> Seen:
    """The values of expressions over the events of a table. Raises RequestRefused where it holds no event, or no model
    gives the anomaly that is asked for."""
    windows = list(dict.fromkeys(window for each in asked for window in each.windows))
    world, tests = World(sample.book, windows=windows), [value_of(each, windows) for each in asked]
    models = sample.champions() if any(ANOMALY in each.paths for each in asked) else NO_MODELS
    rows, refused = sample.rows, Refusals()
    at: list[int] = []
    bad: list[bool] = []
    amounts: list[Money | None] = []
    columns: list[list[Any]] = [[] for _ in asked]
    with progress(len(rows), "looking") as step:
        happened = History(sample.table, rows, sample.book).walk(refused, step)
        for each, anomaly in percentiles(happened, sample.book, sample.table.kind, models):
            event = each.event
            if each.about is not None:
                world.report(event, each.about)
                continue
            at.append(event.at)
            bad.append(each.labelled)
            amounts.append(at_path(event.values, "amount"))
            seen, values = world.see(event), {**event.values, ANOMALY: anomaly}
            for column, test in zip(columns, tests, strict=True):
                column.append(test(values, seen.reading.values, seen.env))
    refused.check(len(at))
    worth, currency = _worth(sample.book, amounts, at)
    return Seen(np.array(at, np.int64), np.array(bad, bool), worth, columns, currency)


def _worth(book: Rulebook, amounts: Sequence[Money | None], at: Sequence[int]) -> tuple[Any, str]:
    """What events are worth, in their own currency where all have one, else in the base currency."""
    codes = {amount.currency for amount in amounts if amount is not None}
    currency = codes.pop() if len(codes) == 1 else book.rates.base
    return np.array([_minor(book, *each, currency) for each in zip(amounts, at, strict=True)], np.int64), currency


def _minor(book: Rulebook, amount: Money | None, at: int, currency: str) -> int:
    found = None if amount is None else book.convert(amount, currency, at)
    return 0 if found is None else found.whole
