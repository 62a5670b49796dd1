"""Alert lines: figures that somebody must hear of when they cross a line. The files `policies/alerts/*.yaml`.

alerts: payments
about: What the night shift is woken for.
owner: payments-risk
lines:
  - id: declines-jump
    metric: declines
    kinds: [transaction]
    by: kind                    # told apart by; without it, all events together
    over: 30m                   # the time that is looked at
    above: 12%
    at_least_events: 200        # fewer say nothing
    for: 10m                    # it must hold so long before somebody hears of it
    clear: {at: 10%, for: 15m}  # and be back so far, so long, before it is over: it does not flap
    severity: high
    message: {en: "{value} of orders are declined", zh: "{value} 的订单被拒绝"}
    playbook: rule-misfire      # what to do then

A server looks at them every 15 seconds. A line that is raised or over is an entry of the ledger (docs/figures.md).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import Problem, did_you_mean
from engine.metrics import GROUPS, METRICS, Figure, Level, Metric, level, shown
from engine.packs import Bilingual, Document, Form, Text, fit
from engine.packs.durations import MICROSECONDS, Duration
from engine.verdict import SEVERITIES

_ID = Form("[a-z0-9]+(-[a-z0-9]+)*", "write small letters, digits and '-', such as declines-jump")
MINUTE = 60 * MICROSECONDS
CALM = 15 * MINUTE
"""How long a figure must be back before its line is cleared, where nothing is said."""
LONGEST = 92 * 24 * 60 * MINUTE
"""Time and label delay together that a line may look back."""
MOST = 200
"""Lines of a rulebook."""
SHOWN = ("value", "level", "of")
"""What a message may show: the figure, the line, and the group."""
_HOLE = re.compile(r"\{([^{}]*)\}")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ClearText(_Model):
    """When an alert is over."""

    at: Level | None = Field(default=None, description="where the figure must be back; at the line when absent")
    for_: Duration | None = Field(
        default=None, alias="for", description="for how long; for as long as `for`, and 15m at least, when absent"
    )


class LineText(_Model):
    """One line: a figure, what it is of, and where it becomes an alert: one of `above` and `below`."""

    id: Annotated[Text, _ID] = Field(max_length=64, description="its name; a playbook names it as its trigger")
    metric: Text = Field(description="which figure, such as declines or loss")
    kinds: list[Text] = Field(default=[], description="of which kinds of event; of all when absent")
    by: Text | None = Field(default=None, description="what the figure is told apart by, such as tier or rule")
    over: Duration = Field(description="the sliding time that is looked at, such as 30m")
    label_delay: Duration | None = Field(
        default=None, description="for figures of how events ended: the delay after which that is known; 7d when absent"
    )
    above: Level | None = Field(default=None, description="an alert above this, in the figure's unit")
    below: Level | None = Field(default=None, description="an alert below this, in the figure's unit")
    at_least_events: int = Field(
        default=1, strict=True, ge=1, le=10_000_000, description="how many cases there must be; fewer say nothing"
    )
    for_: Duration | None = Field(default=None, alias="for", description="how long it must hold; at once when absent")
    clear: ClearText = Field(default=ClearText(), description="when the alert is over")
    severity: Text = Field(description="low, medium, high or critical")
    message: Bilingual = Field(description="what is told, by language; may show {value}, {level} and {of}")
    playbook: Text | None = Field(default=None, description="the playbook that says what to do")


class AlertsPack(_Model):
    """Alert lines of one owner."""

    alerts: Text = Field(min_length=1, max_length=100, description="its name")
    about: Text = Field(min_length=1, max_length=2000, description="who is to hear of what, and why")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for these lines")
    lines: list[LineText] = Field(min_length=1, max_length=MOST, description="the lines")


@dataclass(frozen=True, slots=True)
class Line:
    """An alert line, checked. Times in µs, levels in the unit of the metric; `kinds`: none means all."""

    id: str
    owner: str
    metric: Metric
    kinds: frozenset[str]
    by: str
    over: int
    label_delay: int
    above: float | None
    below: float | None
    at_least: int
    holds: int
    clear_at: float
    calm: int
    severity: str
    messages: tuple[tuple[str, str], ...]
    playbook: str | None

    @property
    def level(self) -> float:
        """Where it lies."""
        found = self.above if self.above is not None else self.below
        assert found is not None, "a line lies somewhere"
        return found

    @property
    def reach(self) -> int:
        """How far back it looks, µs."""
        return self.over + self.label_delay

    def crossed(self, figure: Figure) -> bool:
        """Whether the figure is beyond the line. What has too few cases is not."""
        if figure.of < self.at_least and self.metric.unit not in ("count", "rate", "index"):
            return False
        return figure.value > self.level if self.above is not None else figure.value < self.level

    def back(self, figure: Figure) -> bool:
        """Whether the figure is back so far that an alert may end. What has too few cases is."""
        if figure.of < self.at_least and self.metric.unit not in ("count", "rate", "index"):
            return True
        return figure.value <= self.clear_at if self.above is not None else figure.value >= self.clear_at

    def told(self, figure: Figure, group: str) -> dict[str, str]:
        """The message by language, for a figure of a group."""
        unit = self.metric.unit
        value = shown(figure.value, unit) + (f" ({figure.currency})" if figure.currency else "")
        known = {"value": value, "level": shown(self.level, unit), "of": group}
        return {language: _HOLE.sub(lambda hole: known[hole[1]], text) for language, text in self.messages}


# Reading


def read_alerts(documents: Iterable[Document], kinds: Collection[str], problems: list[Problem]) -> tuple[Line, ...]:
    """The lines of the given files; what is wrong with them goes to `problems`."""
    found: dict[str, Line] = {}
    for document in documents:
        fits = fit(document, AlertsPack)
        wrong = [*fits.problems]
        if fits.pack is not None:
            wrong += fits.beyond(_problems(fits.document, fits.pack, kinds, found))
            if not wrong:
                found |= {str(each.id): _line(each, fits.pack) for each in fits.pack.lines}
                if len(found) > MOST:
                    what = f"there are more than {MOST} alert lines"
                    wrong.append(document.problem(("lines",), what, "nobody could read them all"))
        problems += wrong
    return tuple(found.values())


def _line(text: LineText, pack: AlertsPack) -> Line:
    metric = METRICS[text.metric]
    above, below, clear = (
        None if each is None else level(each, metric.unit) for each in (text.above, text.below, text.clear.at)
    )
    holds = text.for_ or 0
    line = above if above is not None else below
    assert line is not None, "a line without a level is a problem"
    return Line(
        id=str(text.id),
        owner=str(pack.owner),
        metric=metric,
        kinds=frozenset(map(str, text.kinds)),
        by=str(text.by or ""),
        over=text.over,
        label_delay=_delay(text, metric),
        above=above,
        below=below,
        at_least=text.at_least_events,
        holds=holds,
        clear_at=line if clear is None else clear,
        calm=text.clear.for_ or max(holds, CALM),
        severity=str(text.severity),
        messages=tuple(text.message.plain.items()),
        playbook=None if text.playbook is None else str(text.playbook),
    )


def _delay(text: LineText, metric: Metric) -> int:
    week = 7 * 24 * 60 * MINUTE
    return (week if text.label_delay is None else text.label_delay) if metric.labelled else 0


def _problems(
    document: Document, pack: AlertsPack, kinds: Collection[str], others: Mapping[str, Line]
) -> Iterator[Problem]:
    seen = set(others)
    for number, line in enumerate(pack.lines):
        at: tuple[Any, ...] = ("lines", number)
        if line.id in seen:
            yield document.problem((*at, "id"), f"there is an alert line '{line.id}' already")
        seen.add(str(line.id))
        if line.severity not in SEVERITIES[1:]:
            hint = "one of " + ", ".join(SEVERITIES[1:])
            yield document.problem((*at, "severity"), f"an alert cannot be '{line.severity}'", hint)
        yield from _of_message(document, at, line)
        metric = METRICS.get(line.metric)
        if metric is None:
            hint = did_you_mean(line.metric, METRICS) or "one of " + ", ".join(METRICS)
            yield document.problem((*at, "metric"), f"there is no figure '{line.metric}'", hint)
            continue
        yield from _of_groups(document, at, line, metric, kinds)
        yield from _of_levels(document, at, line, metric)
        if line.label_delay is not None and not metric.labelled:
            what = f"'{metric.name}' does not ask how events ended"
            yield document.problem((*at, "label_delay"), what, "take label_delay out", key=True)
        elif line.over + _delay(line, metric) > LONGEST:
            yield document.problem((*at, "over"), "a line looks back 92 days at most, its label delay included")


def _of_message(document: Document, at: tuple[Any, ...], line: LineText) -> Iterator[Problem]:
    for language, text in line.message.plain.items():
        for name in _HOLE.findall(text):
            if name not in SHOWN:
                what, hint = f"a message cannot show '{name}'", "it may show {value}, {level} and {of}"
                yield document.problem((*at, "message", language), what, hint)


def _of_groups(
    document: Document, at: tuple[Any, ...], line: LineText, metric: Metric, kinds: Collection[str]
) -> Iterator[Problem]:
    if line.by is not None and line.by not in metric.by:
        able = [each for each in GROUPS if each in metric.by]
        hint = did_you_mean(line.by, able) or ("one of " + ", ".join(able) if able else "take it out")
        yield document.problem((*at, "by"), f"'{metric.name}' cannot be told apart by '{line.by}'", hint)
    if line.kinds and metric.own:
        what = f"'{metric.name}' is of the server, not of events"
        yield document.problem((*at, "kinds"), what, "take kinds out", key=True)
        return
    for place, kind in enumerate(line.kinds):
        if kind not in kinds:
            hint = did_you_mean(kind, kinds) or "one of " + ", ".join(kinds)
            yield document.problem((*at, "kinds", place), f"there is no kind of event '{kind}'", hint)
    if metric.money and len(line.kinds) != 1 and line.by != "kind":
        what = "an order may have events of several kinds, and its money would be counted for each"
        yield document.problem((*at, "metric"), what, "name one kind under kinds, or write by: kind")


def _of_levels(document: Document, at: tuple[Any, ...], line: LineText, metric: Metric) -> Iterator[Problem]:
    if (line.above is None) == (line.below is None):
        what = "a line has one side on which it is an alert"
        yield document.problem(at, what, "write one of above and below")
        return
    side = "above" if line.above is not None else "below"
    levels = {}
    for loc, value in (((side,), getattr(line, side)), (("clear", "at"), line.clear.at)):
        if value is not None:
            try:
                levels[loc] = level(value, metric.unit)
            except ValueError as error:
                yield document.problem((*at, *loc), f"this is no level of '{metric.name}'", str(error))
    if len(levels) == 2:
        raised, clear = levels.values()
        if clear > raised if side == "above" else clear < raised:
            what = "the alert would be over while the line is still crossed"
            yield document.problem((*at, "clear", "at"), what, f"for '{side}' it lies on the other side of the line")
