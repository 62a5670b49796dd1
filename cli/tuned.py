"""What came of tuning a threshold: on the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.group import counted
from cli.language import label, listed, padded, said, term
from cli.report import grid, money, percent
from cli.tables import stamp
from engine.backtest import Tally
from engine.packs.moments import day_of
from engine.proportions import Interval
from engine.tuning import Figures, Goal, Held, Kept, Limit, Tuned, spread, written

CURVE = 12
"""Rows of the curve on the terminal, about."""
CURVE_JSON = 200
_SHARES = ("recall", "fpr", "precision")
_WORSE = {"alerts": "the number of alerts", "fpr": "FPR"}


# The terminal


def printed(found: Tuned, out: Path | None) -> Iterator[str]:
    """Periods, curve, comparison and what to think of it."""
    yield f"{label(found.subject.name)}{said(found.subject.about)}"
    yield from periods_told(found)
    yield ""
    yield from threshold_told(found)
    if out is not None and found.suggested is not None:
        yield drafted(out)


def drafted(out: Path) -> str:
    """Where the draft is, and what comes next."""
    return said(f"\nwrote {out}, in the shadow; next: arbiter check {out}")


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
        events = counted(tally.events, kind)
        yield _row(name, f"{day_of(begins)} to {day_of(ends)}: {events}, {tally.bad:,} of them fraud")
    if periods.waiting:
        events = counted(periods.waiting, kind)
        yield _row("left out", f"{events} between: before {day_of(periods.until)} nobody knew what they were")
    if periods.young:
        yield _row("young", f"the last {counted(periods.young, kind)}: what they are may not be known yet")


def _row(name: str, text: str) -> str:
    return f"{padded(term(name), 12)} {said(text)}"


def _shown(found: Tuned, count: int) -> list[Any]:
    """Thresholds to show, in their order: some of the curve, the present one and the one that is suggested."""
    values = {written(found.fit, edge, found.subject.type) for edge in spread(found.fit, count)}
    values |= {found.subject.present, found.suggested}
    return sorted(value for value in values if value is not None)


def _curve(found: Tuned) -> Iterator[str]:
    rows = (
        (_at(found, value), *_cells(found, found.figures(value)[0]), _mark(found, value))
        for value in _shown(found, CURVE)
    )
    yield from grid((term("threshold"), *_names(found), ""), rows)


def _at(found: Tuned, value: Any) -> str:
    return f"{found.subject.comparison} {found.subject.spelt(value)}"


def _mark(found: Tuned, value: Any) -> str:
    if value == found.subject.present:
        return term("now", "threshold")
    return term("suggested") if value == found.suggested else ""


def _names(found: Tuned) -> tuple[str, ...]:
    value = () if found.goal.cost is None else (term("value", "alerts"),)
    return (*map(term, ("alerts/d", "recall", "FPR", "precision", "fraud caught", "good orders hit")), *value)


def _cells(found: Tuned, figures: Figures) -> tuple[str, ...]:
    shares = (getattr(figures, name) for name in _SHARES)
    told = (percent(share.value if share else None) for share in shares)
    return (f"{figures.alerts.value:,.1f}", *told, *_money_of(found, figures.tally))


def _money_of(found: Tuned, tally: Tally) -> Iterator[str]:
    value, currency = found.goal.value(tally), found.subject.currency
    yield listed((f"{tally.bad:,}", money(tally.bad_worth, currency)))
    yield listed((f"{tally.good:,}", money(tally.good_worth, currency)))
    if value is not None:
        yield money(value, currency)


def _compared(found: Tuned) -> Iterator[str]:
    """The present threshold and the suggested one in both parts, with intervals."""
    present = found.subject.present
    suggested = None if found.suggested == present else found.suggested
    shown = [
        (said(name), _with_intervals(found, found.figures(value)[part]))
        for name, value, part in (
            ("first part, now", present, 0),
            ("first part, suggested", suggested, 0),
            ("later, now", present, 1),
            ("later, suggested", suggested, 1),
        )
        if value is not None
    ]
    heads, columns = zip(*shown, strict=True)
    yield from grid((said("with 95 % intervals"), *heads), zip(_names(found), *columns, strict=True))


def _with_intervals(found: Tuned, figures: Figures) -> tuple[str, ...]:
    shares = (_interval(getattr(figures, name)) for name in _SHARES)
    return (_a_day(figures.alerts), *shares, *_money_of(found, figures.tally))


def _verdict(found: Tuned) -> Iterator[str]:
    held = found.held()
    if not found.fit.values:
        yield said("no event of the first part hangs on this threshold: nothing is suggested")
        return
    if held is None:
        yield said(_none(found.goal))
        return
    yield said(_suggested(found))
    if found.suggested == found.subject.present:
        yield said("that is the present one")
    yield from (said(_limit_told(kept)) for kept in held.limits)
    for name in held.worse:
        figure = _WORSE.get(name, name)
        yield said(
            f"the fit does not hold: {figure} is worse later than in the first part by more than chance explains"
        )
    if held.costs:
        yield said("the fit does not hold: later the alerts cost more than they save")


def _limits(goal: Goal) -> str:
    return f" {term('and')} ".join(limit.text for limit in goal.limits)


def _none(goal: Goal) -> str:
    """That no threshold reaches a goal."""
    if not goal.limits:
        return "no threshold finds any fraud that is worth its alerts; nothing is suggested"
    kept = _limits(goal)
    if goal.cost is None:
        return f"no threshold keeps {kept} in the first part and finds any fraud; nothing is suggested"
    return (
        f"no threshold keeps {kept} in the first part and finds any fraud that is worth its alerts; "
        "nothing is suggested"
    )


def _suggested(found: Tuned) -> str:
    at = _at(found, found.suggested)
    if not found.goal.limits:
        return f"suggested: {at} is worth most in the first part"
    return f"suggested: {at} keeps {_limits(found.goal)} in the first part"


def _limit_told(kept: Kept) -> str:
    limit, figure = kept.limit.text, _figure(kept)
    if kept.kept:
        return f"later it keeps {limit}: {figure}"
    if kept.chance:
        return f"later it misses {limit}: {figure}, which chance may do"
    return f"the fit does not hold: later it breaks {limit}: {figure}"


def _figure(kept: Kept) -> str:
    if kept.figure is None:
        return "there is nothing to measure it on"
    return f"{_a_day(kept.figure)} a day" if kept.limit.measure == "alerts" else _interval(kept.figure)


def _interval(share: Interval | None) -> str:
    return "–" if share is None else f"{share.value:.2%} ({share.low * 100:.2f}–{share.high * 100:.2f})"


def _a_day(alerts: Interval) -> str:
    return f"{alerts.value:,.1f} ({alerts.low:,.1f}–{alerts.high:,.1f})"


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
