"""`figures`: what decisions came to, out of the ledger, beside their targets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.group import counted
from cli.language import language_option, said, say, term
from cli.opened import moment, with_ledger
from cli.packs import rulebook
from cli.report import grid
from cli.settings import TENANT, pack_options
from engine.archive import Library
from engine.assembly import wall_clock
from engine.errors import RequestRefused, did_you_mean
from engine.figures import Counted, count
from engine.ledger import Ledger
from engine.metrics import METRICS, Figure, Metric, Unit, shown
from engine.packs.durations import MICROSECONDS, duration
from engine.packs.moments import DAY, end_of, start_of, written_end
from engine.targets import Judgement, Targets

BY = ("kind", "tier", "rule", "merchant-category", "merchant")
SHOWN = 25
"""Groups of a kind on the terminal; --json has all."""
PERIOD = 30 * DAY
_COLUMNS = (
    *("interception", "interception_value", "loss", "false_positives"),
    *("declines", "reviews_opened", "reviews_open", "reviews_overdue", "review_time_p50", "review_time_p95"),
)
"""The figures that stand side by side where there are many groups."""


class Row(NamedTuple):
    """One figure of one group of one kind of event, with its target and what it says of it."""

    kind: str
    group: str
    metric: Metric
    figure: Figure
    target: str
    judgement: Judgement | None


@click.command()
@click.option("--from", "since", metavar="MOMENT", help="Received from then on; 30 days back when absent.")
@click.option("--to", "until", metavar="MOMENT", help="Received until then, or that day's end; now when absent.")
@click.option("--by", type=click.Choice(BY), default="kind", show_default=True, help="What they are told apart by.")
@click.option("--label-delay", metavar="DURATION", help="After this, what became of an event is taken as known.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Of this kind of event alone; may be repeated.")
@click.option("--tenant", default=TENANT, show_default=True, help="Whose decisions.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with all groups.")
@pack_options
@language_option
def figures(
    since: str | None,
    until: str | None,
    by: str,
    label_delay: str | None,
    kinds: tuple[str, ...],
    tenant: str,
    as_json: bool,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """What decisions came to: fraud intercepted, loss, false positives, review load, out of the ledger, beside the
    targets of the rulebook. What each figure means: docs/figures.md.

    How events ended is counted only of those whose label delay is over; it says how many are left out. Intervals hold
    95 %. A figure that misses its target only by chance is said to.

    \b
    Examples:
      arbiter figures
      arbiter figures --from 2026-11-01 --to 2026-11-30 --by rule --kind transaction
      arbiter figures --label-delay 45d --json
    """
    book, now = rulebook(rules, policies), wall_clock()
    for kind in kinds:
        if kind not in book.schema.kinds:
            raise RequestRefused(f"there is no kind of event '{kind}'; {did_you_mean(kind, book.schema.kinds)}")
    end = moment(until, end_of, "--to") or now
    begin = moment(since, start_of, "--from")
    begin = end - PERIOD if begin is None else begin
    if begin >= end:
        raise click.UsageError("--from lies behind --to")
    delay = book.targets.label_delay if label_delay is None else _delay(label_delay)

    async def work(ledger: Ledger) -> Counted:
        library = Library(ledger.database, wall_clock)
        return await count(ledger, library.find, tenant, begin, min(end, now), by, delay, now)

    found = with_ledger(work)
    told = [row for row in rows(found, book.targets) if not kinds or row.kind in kinds]
    if as_json:
        click.echo(json.dumps(as_data(found, told, delay), ensure_ascii=False, indent=2))
        return
    for line in printed(found, told):
        click.echo(line)
    for line in notes(found, delay):
        say(line, err=True)


def _delay(text: str) -> int:
    try:
        return duration(text)
    except ValueError as error:
        raise click.UsageError(f"--label-delay: {error}") from None


def rows(found: Counted, targets: Targets) -> Iterator[Row]:
    """Every figure of every group, the largest groups of a kind first."""
    over = found.until - found.since
    for kind, group in sorted(found.all, key=lambda key: (key[0], -found.all[key].get("events", 0), key[1])):
        for metric in METRICS.values():
            if metric.own or found.by not in metric.by:
                continue
            for figure in metric.figures(found.sums(metric, (kind, group)), found.now, over):
                goal = next((each for each in targets.goals if each.covers(metric.name, kind)), None)
                end = None if goal is None else goal.at_least if goal.at_most is None else goal.at_most
                sign = "" if goal is None else "≥ " if goal.at_most is None else "≤ "
                target = "" if end is None else sign + shown(end, metric.unit)
                yield Row(kind, group, metric, figure, target, None if goal is None else goal.judged(figure))


def printed(found: Counted, told: Iterable[Row]) -> Iterator[str]:
    """The figures for a terminal: one a line, or, told apart by something, a group a line."""
    for kind, mine in _by_kind(told).items():
        yield f"{kind}"
        if found.by == "kind":
            head = tuple(map(term, ("figure", "value", "95 % interval", "cases", "target", "verdict on it")))
            yield from grid(head, [_line(row) for row in mine])
        else:
            yield from _side_by_side(found, kind, mine)
        yield ""


def _by_kind(told: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in told:
        found.setdefault(row.kind, []).append(row)
    return found


def _line(row: Row) -> tuple[str, ...]:
    unit, figure = row.metric.unit, row.figure
    return (
        _name(row.metric, figure.currency),
        shown(figure.value, unit),
        _interval(figure, unit),
        f"{figure.of:,}",
        row.target or "–",
        term(row.judgement, "target") if row.judgement else "–",
    )


def _name(metric: Metric, currency: str) -> str:
    return f"{metric.name} {currency}".rstrip()


def _interval(figure: Figure, unit: Unit) -> str:
    if figure.low is None or figure.high is None:
        return "–"
    return f"{shown(figure.low, unit)} – {shown(figure.high, unit)}"


def _side_by_side(found: Counted, kind: str, mine: list[Row]) -> Iterator[str]:
    by_group: dict[str, dict[str, str]] = {}
    for row in mine:
        cells = by_group.setdefault(row.group, {})
        text = shown(row.figure.value, row.metric.unit) + (f" {row.figure.currency}" if row.figure.currency else "")
        cells[row.metric.name] = f"{cells[row.metric.name]}; {text}" if row.metric.name in cells else text
    lines = [
        (
            group or "(none)",
            f"{found.all[kind, group].get('events', 0):,}",
            *(cells.get(name, "–") for name in _COLUMNS),
        )
        for group, cells in by_group.items()
    ]
    yield from grid((term(found.by), term("decisions"), *_COLUMNS), lines[:SHOWN])
    if len(lines) > SHOWN:
        yield said(f"… and {counted(len(lines) - SHOWN, 'group')} more with --json")


def notes(found: Counted, delay: int) -> Iterator[str]:
    """What a reader must know of how they were counted."""
    yield f"received from {written_end(found.since)} until {written_end(found.until)}"
    if found.unripe:
        what = counted(found.unripe, "decision")
        yield f"{what} not ripe: their label delay of {delay / DAY:g} days is not over, how they end is in no figure"
    if found.unread:
        yield f"{counted(found.unread, 'decision')} under rulebooks that this version cannot read: in no figure"


def as_data(found: Counted, told: Iterable[Row], delay: int) -> dict[str, Any]:
    """The same for programs. Shares and other values are decimal text; times are seconds."""
    return {
        "from": found.since,
        "to": found.until,
        "by": found.by,
        "label_delay_s": delay // MICROSECONDS,
        "unripe": found.unripe,
        "unread": found.unread,
        "figures": [_data(row) for row in told],
    }


def _data(row: Row) -> dict[str, Any]:
    figure, by = row.figure, MICROSECONDS if row.metric.unit == "time" else 1
    ends = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {
        "kind": row.kind,
        "group": row.group,
        "metric": row.metric.name,
        "unit": "s" if row.metric.unit == "time" else row.metric.unit,
        "currency": figure.currency or None,
        **{name: None if end is None else f"{end / by:.6f}" for name, end in ends.items()},
        "of": figure.of,
        "target": row.target or None,
        "judgement": row.judgement,
    }
