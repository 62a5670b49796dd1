"""What came of tuning a threshold: on the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cli.group import counted
from cli.report import percent
from cli.tables import stamp
from engine.backtest import Tally
from engine.money import CURRENCIES
from engine.packs.moments import day_of
from engine.proportions import Interval
from engine.tuning import Figures, Held, Kept, Limit, Tuned, spread, written

CURVE = 12
"""Rows of the curve on the terminal, about."""
CURVE_JSON = 200
_SHARES = ("recall", "fpr", "precision")
_NO = "the fit does not hold"
_WORSE = {"alerts": "the number of alerts", "fpr": "FPR"}


# The terminal


def printed(found: Tuned, out: Path | None) -> Iterator[str]:
    """Periods, curve, comparison and what to think of it."""
    yield f"{found.subject.name}: {found.subject.about}"
    yield from periods_told(found)
    yield ""
    yield from threshold_told(found)
    if out is not None and found.suggested is not None:
        yield f"\nwrote {out}, in the shadow; next: arbiter check {out}"


def threshold_told(found: Tuned) -> Iterator[str]:
    """Curve, comparison and what to think of it."""
    yield from _curve(found)
    if found.subject.present is not None or found.suggested is not None:
        yield ""
        yield from _compared(found)
    if found.goal.given or not found.fit.values:
        yield ""
        yield from _verdict(found)


def periods_told(found: Tuned) -> Iterator[str]:
    """The two parts in words; days are those of Asia/Shanghai."""
    periods, kind = found.periods, found.subject.kind
    for name, begins, ends, tally in (
        ("fitted on", periods.first, periods.mature - 1, found.fit.all),
        ("reported on", periods.until, periods.last, found.later.all),
    ):
        days = f"{day_of(begins)} to {day_of(ends)}"
        yield f"{name:<12} {days}: {counted(tally.events, kind)}, {tally.bad:,} of them fraud"
    if periods.waiting:
        known = f"before {day_of(periods.until)} nobody knew what they were"
        yield f"{'left out':<12} {counted(periods.waiting, kind)} between: {known}"
    if periods.young:
        yield f"{'young':<12} the last {counted(periods.young, kind)}: what they are may not be known yet"


def _shown(found: Tuned, count: int) -> list[Any]:
    """Thresholds to show, in their order: some of the curve, the present one and the one that is suggested."""
    values = {written(found.fit, edge, found.subject.type) for edge in spread(found.fit, count)}
    values |= {found.subject.present, found.suggested}
    return sorted(value for value in values if value is not None)


def _curve(found: Tuned) -> Iterator[str]:
    subject, rows = found.subject, []
    for value in _shown(found, CURVE):
        mark = "now" if value == subject.present else "suggested" if value == found.suggested else ""
        rows.append((f"{subject.comparison} {subject.spelt(value)}", *_cells(found, found.figures(value)[0]), mark))
    yield from table((("threshold", *_names(found), ""), *rows))


def _names(found: Tuned) -> tuple[str, ...]:
    value = () if found.goal.cost is None else ("value",)
    return ("alerts/d", "recall", "FPR", "precision", "fraud caught", "good orders hit", *value)


def _cells(found: Tuned, figures: Figures) -> tuple[str, ...]:
    shares = (getattr(figures, name) for name in _SHARES)
    told = (percent(share.value if share else None) for share in shares)
    return (f"{figures.alerts.value:,.1f}", *told, *_money_of(found, figures.tally))


def _money_of(found: Tuned, tally: Tally) -> Iterator[str]:
    value = found.goal.value(tally)
    yield f"{tally.bad:,}, {_money(found, tally.bad_worth)}"
    yield f"{tally.good:,}, {_money(found, tally.good_worth)}"
    if value is not None:
        yield _money(found, value)


def _compared(found: Tuned) -> Iterator[str]:
    """The present threshold and the suggested one in both parts, with intervals."""
    present, suggested = found.subject.present, found.suggested
    values = {"now": present, "suggested": suggested if suggested != present else None}
    head, columns = ["with 95 % intervals"], []
    for part, at in (("first part", 0), ("later", 1)):
        for name, value in values.items():
            if value is not None:
                head.append(f"{part}, {name}")
                columns.append(_with_intervals(found, found.figures(value)[at]))
    yield from table((tuple(head), *zip(_names(found), *columns, strict=True)))


def _with_intervals(found: Tuned, figures: Figures) -> tuple[str, ...]:
    shares = (_interval(getattr(figures, name)) for name in _SHARES)
    return (_a_day(figures.alerts), *shares, *_money_of(found, figures.tally))


def _verdict(found: Tuned) -> Iterator[str]:
    subject, held = found.subject, found.held()
    limits = " and ".join(limit.text for limit in found.goal.limits)
    if not found.fit.values:
        yield "no event of the first part hangs on this threshold: nothing is suggested"
        return
    if held is None:
        what = f"keeps {limits} in the first part and finds" if limits else "finds"
        worth = "" if found.goal.cost is None else " that is worth its alerts"
        yield f"no threshold {what} any fraud{worth}; nothing is suggested"
        return
    what = f"keeps {limits}" if limits else "is worth most"
    yield f"suggested: {subject.comparison} {subject.spelt(found.suggested)} {what} in the first part"
    if found.suggested == subject.present:
        yield "that is the present one"
    yield from map(_limit_told, held.limits)
    for name in held.worse:
        yield f"{_NO}: {_WORSE.get(name, name)} is worse later than in the first part by more than chance explains"
    if held.costs:
        yield f"{_NO}: later the alerts cost more than they save"


def _limit_told(kept: Kept) -> str:
    told = f"{kept.limit.text}: {_figure(kept)}"
    if kept.kept:
        return f"later it keeps {told}"
    return f"later it misses {told}, which chance may do" if kept.chance else f"{_NO}: later it breaks {told}"


def _figure(kept: Kept) -> str:
    if kept.figure is None:
        return "there is nothing to measure it on"
    return f"{_a_day(kept.figure)} a day" if kept.limit.measure == "alerts" else _interval(kept.figure)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows below each other, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _interval(share: Interval | None) -> str:
    return "–" if share is None else f"{share.value:.2%} ({share.low * 100:.2f}–{share.high * 100:.2f})"


def _a_day(alerts: Interval) -> str:
    return f"{alerts.value:,.1f} ({alerts.low:,.1f}–{alerts.high:,.1f})"


def _money(found: Tuned, minor: int) -> str:
    currency = found.subject.currency
    return f"{round(minor / 10 ** CURRENCIES[currency]):,} {currency}"


# JSON


def in_json(found: Tuned, out: Path | None) -> dict[str, Any]:
    """Everything; money in minor units, shares and alerts a day as [value, low, high]."""
    subject, held = found.subject, found.held()
    points = {"present": subject.present, "suggested": found.suggested}
    return {
        "subject": subject.name,
        "threshold": subject.about,
        "comparison": subject.comparison,
        "currency": subject.currency,
        "periods": _periods_json(found),
        "curve": [_point(found, value) for value in _shown(found, CURVE_JSON)],
        **{name: None if value is None else _point(found, value) for name, value in points.items()},
        "alert_cost": found.goal.cost,
        "limits": [_limit_json(limit, held) for limit in found.goal.limits],
        "worse": list(held.worse) if held else [],
        "holds": held is not None and held.holds,
        "draft": str(out) if out is not None and held is not None else None,
    }


def _periods_json(found: Tuned) -> dict[str, Any]:
    periods, fit, later = found.periods, found.fit.all, found.later.all
    return {
        "fit": {"from": stamp(periods.first), "to": stamp(periods.mature), "events": fit.events, "fraud": fit.bad},
        "later": {"from": stamp(periods.until), "to": stamp(periods.last), "events": later.events, "fraud": later.bad},
        "left_out": periods.waiting,
        "young": periods.young,
    }


def _limit_json(limit: Limit, held: Held | None) -> dict[str, Any]:
    kept = next((each for each in held.limits if each.limit == limit), None) if held else None
    if kept is None:
        return {"limit": limit.text, "later": None, "kept": None, "by_chance": None}
    figure = list(kept.figure) if kept.figure else None
    return {"limit": limit.text, "later": figure, "kept": kept.kept, "by_chance": kept.chance}


def _point(found: Tuned, value: Any) -> dict[str, Any]:
    fit, later = (_figures_json(found, figures) for figures in found.figures(value))
    return {"at": found.subject.spelt(value), "fit": fit, "later": later}


def _figures_json(found: Tuned, figures: Figures) -> dict[str, Any]:
    tally = figures.tally
    intervals = {name: getattr(figures, name) for name in (*_SHARES, "alerts")}
    return {
        "events": tally.events,
        "fraud": tally.bad,
        "good": tally.good,
        "fraud_money": tally.bad_worth,
        "good_money": tally.good_worth,
        "value": found.goal.value(tally),
        **{name: None if share is None else list(share) for name, share in intervals.items()},
    }
