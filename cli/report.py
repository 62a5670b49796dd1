"""A backtest for people: lines for a terminal, Parquet tables, and one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cli.group import counted
from cli.language import label, language, listed, padded, said, term, width
from engine.backtest import Figures, RuleFigures, Tally, Threshold
from engine.money import CURRENCIES
from engine.packs.moments import day_of
from engine.proportions import Interval

if TYPE_CHECKING:
    from cli.backtest import Run

SHOWN_RULES = 25
"""Rules on the terminal; the report has all."""
_PAGE = Template((Path(__file__).parent / "report.html").read_text("utf-8"))


# Words


def money(minor: int, currency: str) -> str:
    """An amount of minor units in whole units of its currency."""
    return f"{round(minor / 10 ** CURRENCIES[currency]):,} {currency}"


def percent(share: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if share is None else f"{share:.2%}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.value:.1%} ({interval.low:.1%}–{interval.high:.1%})"


def outcomes(figures: Figures) -> list[tuple[str, str, str, str]]:
    """What became of fraud, of good orders and, of these, of refunded ones: (in words, events, of all such, money)."""

    def line(words: str, tally: Tally, of: Callable[[Tally], tuple[int, int]]) -> tuple[str, str, str, str]:
        (events, worth), (whole, _) = of(tally), of(figures.all)
        return said(words), f"{events:,}", percent(events / whole if whole else None), money(worth, figures.currency)

    found = (
        []
        if not figures.labelled
        else [
            line("fraud stopped: money saved", figures.stopped, _bad),
            line("fraud questioned (challenge, review)", figures.questioned, _bad),
            line("fraud passed: money lost", figures.passed, _bad),
            line("good orders stopped: sales lost", figures.stopped, _good),
            line("good orders questioned", figures.questioned, _good),
            line("good orders passed", figures.passed, _good),
        ]
    )
    if figures.refunds:
        found += [
            line("of good orders, refunded and stopped", figures.stopped, _refunded),
            line("of good orders, refunded and questioned", figures.questioned, _refunded),
            line("of good orders, refunded and passed", figures.passed, _refunded),
        ]
    return found


def _bad(tally: Tally) -> tuple[int, int]:
    return tally.bad, tally.bad_worth


def _good(tally: Tally) -> tuple[int, int]:
    return tally.good, tally.good_worth


def _refunded(tally: Tally) -> tuple[int, int]:
    return tally.refunded, tally.refunded_worth


def printed(run: Run) -> Iterator[str]:
    """The figures for a terminal."""
    figures = run.figures
    yield _headline(run)
    if run.refused:
        yield said(f"{counted(run.refused, 'row')} refused and in no figure; see below")
    yield ""
    yield from grid(_heads(_VERDICT_HEAD), _verdicts(figures))
    if figures.labelled or figures.refunds:
        yield ""
        yield from grid(_heads(_OUTCOME_HEAD), outcomes(figures))
    yield ""
    shown = figures.rules[:SHOWN_RULES]
    yield from grid(_heads(_RULE_HEAD), [_rule_cells(each, figures) for each in shown])
    if len(figures.rules) > len(shown):
        yield said(f"… and {counted(len(figures.rules) - len(shown), 'rule')} more in the report (--out)")
    yield ""
    yield from notes(run)


def _headline(run: Run) -> str:
    figures = run.figures
    time = f"{day_of(figures.first)} to {day_of(figures.last)}"
    line = f"{run.table.name}: "
    line += said(f"{counted(figures.all.events, run.table.kind)}, {time}, rulebook {run.book.hash[:12]}")
    if figures.labelled and run.table.delay is not None:
        known = _days(run.table.delay)
        line += said(f"; {figures.all.bad:,} fraud ({run.table.outcome_is}), known after {known}")
    return line


def _days(delay: int) -> str:
    days = delay / 86_400_000_000
    return f"{days:g} {'day' if days == 1 else 'days'}"


def _verdicts(figures: Figures) -> list[tuple[str, ...]]:
    return [
        (
            each.verdict,
            f"{each.tally.events:,}",
            percent(each.tally.events / figures.all.events),
            f"{each.tally.bad:,}" if figures.labelled else "–",
            money(each.tally.worth, figures.currency),
        )
        for each in figures.verdicts
    ]


_VERDICT_HEAD = ("verdict", "events", "share", "fraud", "money")
_OUTCOME_HEAD = ("outcome", "events", "of all", "money")
_RULE_HEAD = ("rule", "mode", "fired", "fraud", "precision (95 %)", "recall (95 %)", "lift", "alone", "fires with")


def _heads(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(term, words))


def _rule_cells(rule: RuleFigures, figures: Figures) -> tuple[str, ...]:
    partner = f"{rule.partners[0][0]} {rule.partners[0][1]:.0%}" if rule.partners else "–"
    return (
        rule.id,
        rule.mode,
        f"{rule.tally.events:,}",
        f"{rule.tally.bad:,}" if figures.labelled else "–",
        _interval(rule.precision),
        _interval(rule.recall),
        "–" if rule.lift is None else f"{rule.lift:.1f}",
        said(f"{rule.alone.bad:,} of {rule.alone.events:,}") if figures.labelled else f"{rule.alone.events:,}",
        partner,
    )


def notes(run: Run) -> Iterator[str]:
    """What a reader must know about how it was computed."""
    if run.refused:
        yield said(f"{counted(run.refused, 'row')} refused: arbiter score writes each with its reasons")
    if run.found.questions:
        asked = counted(run.found.asked, "event")
        yield said(f"{counted(len(run.found.questions), 'question')} asked of the engine itself, at {asked}:")
        for question in run.found.questions[:10]:
            yield f"  {question.node.text}: {said(question.reason)}"
        if len(run.found.questions) > 10:
            yield said(f"  … and {len(run.found.questions) - 10} more")
    if not run.figures.labelled:
        yield said("the mapping file has no outcome: nothing says which events were fraud")
    yield listed(f"{term(name)} {seconds:,.1f} s" for name, seconds in run.seconds.items())


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns in line: the first to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(width(row[at]) for row in cells) for at in range(len(head))]
    for row in cells:
        first, *rest = row
        parts = [
            padded(first, widths[0]),
            *(padded(each, to, "right") for each, to in zip(rest, widths[1:], strict=True)),
        ]
        yield "  ".join(parts).rstrip()


# Tables


def write_report(run: Run, out: Path) -> None:
    """report.html, and verdicts, rules, thresholds and parts as Parquet, into a folder that is there."""
    _write_verdicts(run, out / "verdicts.parquet")
    pq.write_table(pa.Table.from_pylist(_rule_rows(run.figures)), out / "rules.parquet", compression="zstd")
    curve = [{**_of(each.tally), **_rest(each)} for each in run.figures.curve]
    pq.write_table(pa.Table.from_pylist(curve), out / "thresholds.parquet", compression="zstd")
    parts = [
        {"field": name, "value": part.value, "slice": which, **_of(tally)}
        for name, found in run.figures.parts.items()
        for part in found
        for which, tally in (("all", part.all), ("stopped", part.stopped), ("questioned", part.questioned))
    ]
    pq.write_table(pa.Table.from_pylist(parts), out / "parts.parquet", compression="zstd")
    (out / "report.html").write_text(page(run), "utf-8")


def _write_verdicts(run: Run, to: Path) -> None:
    """A row an event, in the order of time."""
    here, variants = run.past.warehouse, run.judged.variants
    rules = run.book.kinds[run.past.kind].rules
    named = here.put(
        "variants",
        pa.table(
            {
                "number": pa.array(range(len(variants)), pa.int64()),
                "verdict": pa.array([each.outcome.verdict for each in variants], pa.string()),
                "score": pa.array([each.outcome.score for each in variants], pa.int64()),
                "signals": pa.array([list(each.outcome.signals) for each in variants], pa.list_(pa.string())),
                "rules": pa.array([[rules[at].id for at in each.fired] for each in variants], pa.list_(pa.string())),
            }
        ),
    )
    table = run.judged.table
    joined = table.join(named, table.variant == named.number).order_by("seq")
    columns = ["row", "event_id", "at", "verdict", "score", "signals", "rules", "bad", "refunded", "tier", "worth"]
    here.write(joined.select(*columns), to)


def _of(tally: Tally) -> dict[str, int]:
    return {
        "events": tally.events,
        "fraud": tally.bad,
        "worth": tally.worth,
        "fraud_worth": tally.bad_worth,
        "refunded": tally.refunded,
        "refunded_worth": tally.refunded_worth,
    }


def _rest(each: Threshold) -> dict[str, Any]:
    shares = {"recall": each.recall, "false_positives": each.false_positives, "alerts": each.alerts}
    return {"score": each.score, **shares, "precision": each.precision}


def _rule_rows(figures: Figures) -> list[dict[str, Any]]:
    return [
        {
            "rule": each.id,
            "signal": each.signal,
            "mode": each.mode,
            **_of(each.tally),
            "alone": each.alone.events,
            "alone_fraud": each.alone.bad,
            **_ends("precision", each.precision),
            **_ends("recall", each.recall),
            "lift": each.lift,
            "fires_with": [{"rule": name, "share": share} for name, share in each.partners],
        }
        for each in figures.rules
    ]


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    value, low, high = interval or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


# The page


def page(run: Run) -> str:
    """The whole report: one file, without a script, with plots drawn as SVG."""
    figures = run.figures
    sections = [_section(term("Verdicts"), _table(_heads(_VERDICT_HEAD), _verdicts(figures)))]
    if figures.labelled or figures.refunds:
        sections.insert(0, _section(term("Outcomes"), _table(_heads(_OUTCOME_HEAD), outcomes(figures))))
    if figures.labelled:
        sections.append(_section(term("Thresholds"), said(_ABOUT_CURVES) + _curves(figures) + _curve_table(figures)))
    sections.append(_section(term("Rules"), said(_ABOUT_RULES) + _rule_plot(figures) + _rule_table(figures)))
    sections += [
        _section(said(f"By {name}"), _part_table(figures, name)) for name in figures.parts if figures.parts[name]
    ]
    told = "".join(f"<p>{escape(line)}</p>" for line in notes(run))
    sections.append(_section(said("How it was computed"), told))
    title = f"{label('Backtest')}{run.table.name}"
    return _PAGE.substitute(
        lang=language(), title=escape(title), about=escape(_headline(run)), body="\n".join(sections)
    )


_ABOUT_CURVES = (
    "<p>Every score from which a verdict could be given: how much of the fraud, and how many good orders, "
    "it reaches.</p>"
)
_ABOUT_RULES = (
    "<p>Intervals are Wilson's, at 95 %. <em>Lift</em> is precision over the share of fraud in all events. "
    "<em>Alone</em>: fraud of all events on which no other rule fired.</p>"
)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _rule_table(figures: Figures) -> str:
    head = _heads((*_RULE_HEAD, "fraud's money"))
    return _table(
        head, [(*_rule_cells(each, figures), money(each.tally.bad_worth, figures.currency)) for each in figures.rules]
    )


def _curve_table(figures: Figures) -> str:
    head = (
        "score from",
        "events",
        "alert load",
        "recall",
        "false positives",
        "precision",
        "fraud's money",
        "good money",
    )
    rows = [
        (
            str(each.score),
            f"{each.tally.events:,}",
            percent(each.alerts),
            percent(each.recall),
            percent(each.false_positives),
            percent(each.precision),
            money(each.tally.bad_worth, figures.currency),
            money(each.tally.good_worth, figures.currency),
        )
        for each in figures.curve
    ]
    return _table(_heads(head), rows)


def _part_table(figures: Figures, name: str) -> str:
    head = (
        "events",
        "fraud",
        "fraud stopped",
        "fraud questioned",
        "good stopped",
        "good questioned",
        "fraud's money",
    )
    rows = [
        (
            part.value,
            f"{part.all.events:,}",
            f"{part.all.bad:,}",
            f"{part.stopped.bad:,}",
            f"{part.questioned.bad:,}",
            f"{part.stopped.good:,}",
            f"{part.questioned.good:,}",
            money(part.all.bad_worth, figures.currency),
        )
        for part in figures.parts[name]
    ]
    return _table((name, *_heads(head)), rows)


# Plots

_WIDTH, _HEIGHT, _EDGE = 560, 300, 46


def _curves(figures: Figures) -> str:
    """Recall, false positives and alert load over the score; and recall over false positives."""
    top = max([each.score for each in figures.curve] + [1])
    over = [
        ("recall", "a", [(each.score / top, each.recall or 0.0) for each in figures.curve]),
        ("false positives", "b", [(each.score / top, each.false_positives or 0.0) for each in figures.curve]),
        ("alert load", "c", [(each.score / top, each.alerts) for each in figures.curve]),
    ]
    against = [(each.false_positives or 0.0, each.recall or 0.0) for each in figures.curve]
    widest = max([x for x, _ in against if x < 1] + [0.01])
    shown = [(x / widest, y) for x, y in against if x <= widest]
    first = _plot(said("Reached by a threshold at a score"), over, ("0", said(f"score {top}")))
    return first + _plot(said("Recall over false positives"), [("", "a", [*shown, (0.0, 0.0)])], ("0", f"{widest:.2%}"))


def _plot(title: str, lines: Sequence[tuple[str, str, list[tuple[float, float]]]], ends: tuple[str, str]) -> str:
    """Lines in a unit square; y is a share."""
    drawn = []
    for number, (name, style, points) in enumerate(lines):
        ordered = sorted(points)
        path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in ordered)
        dots = "".join(f'<circle cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="2.5" class="{style}"/>' for x, y in ordered)
        drawn.append(f'<polyline points="{path}" class="{style}"/>{dots}')
        if name:
            drawn.append(
                f'<text x="{_WIDTH - 130}" y="{_EDGE + 16 * number}" class="{style} key">{escape(term(name))}</text>'
            )
    grid = "".join(
        f'<line x1="{_EDGE}" x2="{_WIDTH - 12}" y1="{_y(at):.1f}" y2="{_y(at):.1f}" class="grid"/>'
        f'<text x="{_EDGE - 6}" y="{_y(at) + 4:.1f}" class="tick end">{at:.0%}</text>'
        for at in (0, 0.25, 0.5, 0.75, 1)
    )
    foot = (
        f'<text x="{_EDGE}" y="{_HEIGHT - 8}" class="tick">{escape(ends[0])}</text>'
        f'<text x="{_WIDTH - 12}" y="{_HEIGHT - 8}" class="tick end">{escape(ends[1])}</text>'
    )
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
    return f"<figure>{head}{grid}{''.join(drawn)}{foot}</svg><figcaption>{escape(title)}</figcaption></figure>"


def _x(share: float) -> float:
    return _EDGE + share * (_WIDTH - _EDGE - 12)


def _y(share: float) -> float:
    return 14 + (1 - share) * (_HEIGHT - 44)


_PLOTTED = 30
_BAR = 18


def _rule_plot(figures: Figures) -> str:
    """Precision of the rules that caught most fraud, with intervals."""
    shown = [each for each in figures.rules if each.precision is not None][:_PLOTTED]
    if not figures.labelled or not shown:
        return ""
    left, width = 250, 560
    rows = []
    for number, each in enumerate(shown):
        assert each.precision is not None
        middle = 22 + number * _BAR
        value, low, high = (left + share * (width - left - 12) for share in each.precision)
        rows.append(
            f'<text x="{left - 8}" y="{middle + 4}" class="tick end">{escape(each.id)}</text>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" class="range"/>'
            f'<circle cx="{value:.1f}" cy="{middle}" r="3.5" class="a"/>'
        )
    height = 34 + len(shown) * _BAR
    scale = "".join(
        f'<line x1="{left + at * (width - left - 12):.1f}" x2="{left + at * (width - left - 12):.1f}" y1="10" '
        f'y2="{height - 18}" class="grid"/>'
        f'<text x="{left + at * (width - left - 12):.1f}" y="{height - 4}" class="tick middle">{at:.0%}</text>'
        for at in (0, 0.25, 0.5, 0.75, 1)
    )
    title = said("Precision of the rules that caught most fraud")
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
    return f"<figure>{head}{scale}{''.join(rows)}</svg><figcaption>{title}</figcaption></figure>"
