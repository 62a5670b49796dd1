"""Playbooks: what is done when something is going on, by whom, until when, and what is said meanwhile.

    playbook: card-testing
    name: {en: Card-testing attack, zh: 盗卡试刷攻击}
    about: {en: …, zh: …}
    owner: payments-risk
    triggers:
      - {event: payment, signal: card_testing, at_least: 50, within: 10m}
      - {alert: declines-jump}
      - {webhook: opinion, sentiment: -0.4, volume: 500, within: 6h}
    roles:
      duty: {en: Risk officer on duty, zh: 值班风控}
    steps:
      - id: guard
        role: duty
        within: 10m
        what: {en: …, zh: …}
        evidence: {en: …, zh: …}
        mode: {name: guarded, for: 2h}
        automatic: true
    timers:
      - {id: authority, step: report, within: 4h, what: {en: …, zh: …}, law: [cn.cim.4]}
    messages:
      - {id: buyers, to: {en: …, zh: …}, text: {en: "… {what} …", zh: "… {what} …"}}
    blanks:
      what: {en: what happened, zh: 发生了什么}
    drill_every: 366d

A step has its time from the moment the incident was opened, a timer from the moment it became known, as the law
counts; a step is due no later than the timers it stops. A trigger counts events by their public fields alone, so that
it can be counted again out of the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import PackError, Problem, did_you_mean
from engine.expr import BOOL, Env, Vocabulary, value_of
from engine.expr import read as read_expression
from engine.packs import FORMAT_MEANS, LAW_ID, Bilingual, Document, Form, Loc, Text, fit
from engine.packs.durations import MICROSECONDS, Duration
from engine.policy import LONGEST_MODE
from engine.schema import FieldDef

_NAME = Form("[a-z0-9]+(-[a-z0-9]+)*", "write small letters, digits and '-', such as card-testing")
_BLANK = re.compile(r"\{([^{}]*)\}")
_WORD = Form("[a-z][a-z0-9_]*", "write small letters, digits and '_'")

OPINION = "opinion"
WEBHOOKS = (OPINION,)
"""What others can report."""

FILLED = ("incident", "known", "opened")
"""What Arbiter itself fills into a message: the incident's id, when it became known, when it was opened."""

DAY = 86_400 * MICROSECONDS
LONGEST_TRIGGER = 7 * DAY
MOST_EVENTS = 100_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TriggerText(_Model):
    """What opens an incident by itself: an alert line that is raised, so many events, or what others report."""

    alert: Text | None = Field(default=None, description="the id of an alert line")
    event: Text | None = Field(default=None, description="a kind of event; so many of them within a time")
    when: Text | None = Field(default=None, max_length=4000, description="a condition on its public fields")
    signal: Text | None = Field(default=None, description="what was found about it")
    webhook: Text | None = Field(default=None, description="what others report: opinion")
    sentiment: Decimal | None = Field(default=None, ge=-1, le=1, description="reports at or below it count, -1 to 1")
    volume: int | None = Field(default=None, ge=1, le=1_000_000_000, description="mentions in these reports together")
    at_least: int | None = Field(default=None, ge=1, le=MOST_EVENTS, description="how many events")
    within: Duration | None = Field(default=None, description="within which time, at most 7d")


class ModeText(_Model):
    """A mode that a step switches on."""

    name: Text = Field(description="a mode of the policies")
    for_: Duration = Field(alias="for", description="how long, at most 7d")


class StepText(_Model):
    """One thing that somebody does."""

    id: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    role: Text = Field(description="who does it, one of 'roles'")
    within: Duration = Field(description="until when, from the opening of the incident")
    what: Bilingual = Field(description="what is done")
    evidence: Bilingual = Field(description="what shows that it was done")
    mode: ModeText | None = Field(default=None, description="a mode that this step switches on")
    automatic: bool = Field(
        default=False, strict=True, description="whether Arbiter switches the mode on by itself at the opening"
    )


class TimerText(_Model):
    """A clock of the law or of a contract, which the end of a step stops."""

    id: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    step: Text = Field(description="the step that stops it")
    within: Duration = Field(description="until when, from the moment the incident became known")
    what: Bilingual = Field(description="what has to have happened by then, and for whom it holds")
    law: list[Annotated[Text, LAW_ID]] = Field(default=[], max_length=10, description="the articles that ask for it")


class MessageText(_Model):
    """A text that is ready to be sent, but for its blanks."""

    id: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    to: Bilingual = Field(description="to whom")
    text: Bilingual = Field(description="the text; {name} is a blank, or {incident}, {known}, {opened}")


class PlaybookPack(_Model):
    """What is done when something is going on."""

    format: int = Field(default=1, ge=1, le=1, description=FORMAT_MEANS)
    playbook: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    name: Bilingual = Field(description="what it is called")
    about: Bilingual = Field(description="what it is for, and how one knows that this is it")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    triggers: list[TriggerText] = Field(default=[], max_length=20, description="what opens an incident by itself")
    roles: dict[Text, Bilingual] = Field(min_length=1, max_length=20, description="who does something")
    steps: list[StepText] = Field(min_length=1, max_length=50, description="what is done, in this order")
    timers: list[TimerText] = Field(default=[], max_length=20, description="clocks of the law")
    messages: list[MessageText] = Field(default=[], max_length=20, description="texts that are ready")
    blanks: dict[Annotated[Text, _WORD], Bilingual] = Field(
        default={}, max_length=30, description="what somebody fills into messages"
    )
    drill_every: Duration = Field(default=366 * DAY, description="after how long it is to be practised again")


Test = Callable[[dict[str, Any], Sequence[Any], Env], Any]


@dataclass(frozen=True, slots=True)
class Trigger:
    """One of: an alert line, events of a kind, or reports of others. Times in µs, sentiment in thousandths."""

    alert: str = ""
    kind: str = ""
    signal: str = ""
    when: str = ""
    at_least: int = 0
    within: int = 0
    webhook: str = ""
    sentiment: int = 0
    volume: int = 0

    @property
    def cause(self) -> str:
        """What an incident that it opens has as its cause."""
        if self.alert:
            return f"alert {self.alert}"
        return f"webhook {self.webhook}" if self.webhook else f"{self.kind} events"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that somebody does. `mode` is (name, µs) of the one that it switches on."""

    id: str
    role: str
    within: int
    what: Mapping[str, str]
    evidence: Mapping[str, str]
    mode: tuple[str, int] | None
    automatic: bool


@dataclass(frozen=True, slots=True)
class Timer:
    """A clock that a step stops."""

    id: str
    step: str
    within: int
    what: Mapping[str, str]
    law: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A text that is ready to be sent, but for its blanks."""

    id: str
    to: Mapping[str, str]
    text: Mapping[str, str]


@dataclass(frozen=True)
class Playbook:
    """A playbook, checked. `tests` are the compiled conditions of its triggers, by their place."""

    id: str
    name: Mapping[str, str]
    about: Mapping[str, str]
    owner: str
    triggers: tuple[Trigger, ...]
    roles: Mapping[str, Mapping[str, str]]
    steps: tuple[Step, ...]
    timers: tuple[Timer, ...]
    messages: tuple[Message, ...]
    blanks: Mapping[str, Mapping[str, str]]
    drill_every: int
    tests: Mapping[int, Test]

    def step(self, id: str) -> Step | None:
        """The step of this name."""
        return next((step for step in self.steps if step.id == id), None)


@dataclass(frozen=True, slots=True)
class Around:
    """What playbooks may name: fields and signals by kind of event, modes, alert lines; None where not all are known.
    `unsure` are signals that files which could not be read may bring, `lost` fields likewise."""

    fields: Mapping[str, Mapping[str, FieldDef]]
    signals: Mapping[str, Collection[str]] | None
    modes: Collection[str] | None
    alerts: Collection[str] | None = None
    unsure: Collection[str] = ()
    lost: Collection[str] = frozenset()


def read_playbooks(documents: Iterable[Document], around: Around, problems: list[Problem]) -> tuple[Playbook, ...]:
    """The playbooks of the given files; what is wrong with them goes to `problems`."""
    found: dict[str, Playbook] = {}
    for document in documents:
        fits = fit(document, PlaybookPack)
        problems.extend(fits.problems)
        if fits.pack is None:
            continue
        tests, wrong = _tests(fits.pack, around)
        wrong += _problems(fits.document, fits.pack, around)
        if fits.pack.playbook in found:
            what = f"there is a playbook '{fits.pack.playbook}' already"
            wrong.append(fits.document.problem(("playbook",), what, "give it another name"))
        problems.extend(fits.beyond(wrong))
        found[str(fits.pack.playbook)] = _playbook(fits.pack, tests)
    return tuple(found.values())


def _playbook(pack: PlaybookPack, tests: Mapping[int, Test]) -> Playbook:
    return Playbook(
        id=str(pack.playbook),
        name=pack.name.plain,
        about=pack.about.plain,
        owner=str(pack.owner),
        triggers=tuple(map(_trigger, pack.triggers)),
        roles={str(role): name.plain for role, name in pack.roles.items()},
        steps=tuple(
            Step(
                *(str(each.id), str(each.role), each.within, each.what.plain, each.evidence.plain),
                *((str(each.mode.name), each.mode.for_) if each.mode else None, each.automatic),
            )
            for each in pack.steps
        ),
        timers=tuple(
            Timer(str(each.id), str(each.step), each.within, each.what.plain, tuple(map(str, each.law)))
            for each in pack.timers
        ),
        messages=tuple(Message(str(each.id), each.to.plain, each.text.plain) for each in pack.messages),
        blanks={str(name): what.plain for name, what in pack.blanks.items()},
        drill_every=pack.drill_every,
        tests=tests,
    )


def _trigger(text: TriggerText) -> Trigger:
    return Trigger(
        alert=str(text.alert or ""),
        kind=str(text.event or ""),
        signal=str(text.signal or ""),
        when=str(text.when or ""),
        at_least=text.at_least or 0,
        within=text.within or 0,
        webhook=str(text.webhook or ""),
        sentiment=int((text.sentiment or 0) * 1000),
        volume=text.volume or 0,
    )


# What must fit together


def _problems(document: Document, pack: PlaybookPack, around: Around) -> list[Problem]:
    found = [*_twice(document, pack)]
    for at, trigger in enumerate(pack.triggers):
        found += _of_trigger(document, ("triggers", at), trigger, around)
    for at, step in enumerate(pack.steps):
        found += _of_step(document, ("steps", at), step, pack, around)
    for at, timer in enumerate(pack.timers):
        found += _of_timer(document, ("timers", at), timer, pack)
    return [*found, *_of_messages(document, pack)]


def _twice(document: Document, pack: PlaybookPack) -> Iterator[Problem]:
    parts: dict[str, Sequence[StepText | TimerText | MessageText]]
    parts = {"steps": pack.steps, "timers": pack.timers, "messages": pack.messages}
    for part, items in parts.items():
        seen: set[str] = set()
        for at, each in enumerate(items):
            if each.id in seen:
                yield document.problem((part, at, "id"), f"the id '{each.id}' is taken", "give it another one")
            seen.add(str(each.id))


_SORTS: Mapping[str, tuple[str, ...]] = {
    "alert": (),
    "event": ("at_least", "within"),
    "webhook": ("sentiment", "volume", "within"),
}
"""The key that says what a trigger looks at, and the keys that it then needs."""
_MORE: Mapping[str, tuple[str, ...]] = {"alert": (), "event": ("when", "signal"), "webhook": ()}


def _of_trigger(document: Document, loc: Loc, trigger: TriggerText, around: Around) -> Iterator[Problem]:
    given = {key for key, value in trigger if value is not None}
    sorts = [sort for sort in _SORTS if sort in given]
    if len(sorts) != 1:
        yield document.problem(loc, "a trigger looks at one thing: 'alert', 'event' or 'webhook'", "write one of them")
        return
    (sort,) = sorts
    needed, allowed = _SORTS[sort], {sort, *_SORTS[sort], *_MORE[sort]}
    for key in needed:
        if key not in given:
            yield document.problem(loc, f"a trigger on '{sort}' needs '{key}'", f"it needs {' and '.join(needed)}")
    for key in sorted(given - allowed):
        yield document.problem((*loc, key), f"'{key}' does not go with '{sort}'", "take it out")
    if trigger.within is not None and trigger.within > LONGEST_TRIGGER:
        yield document.problem((*loc, "within"), "a trigger looks back 7 days at most", "write 7d, or less")
    yield from _names(document, loc, trigger, around)


def _names(document: Document, loc: Loc, trigger: TriggerText, around: Around) -> Iterator[Problem]:
    kind, signals = trigger.event, None
    if kind in around.fields and around.signals is not None:
        signals = around.signals.get(str(kind), ())
    asked: list[tuple[str, Text | None, Collection[str] | None, str]] = [
        ("event", kind, around.fields, f"there is no kind of event '{kind}'"),
        ("webhook", trigger.webhook, WEBHOOKS, f"there is no webhook '{trigger.webhook}'"),
        ("alert", trigger.alert, around.alerts, f"there is no alert line '{trigger.alert}'"),
        ("signal", trigger.signal, signals, f"nothing finds the signal '{trigger.signal}' for {kind}"),
    ]
    for key, name, known, what in asked:
        if name is None or known is None or name in known or name in around.unsure:
            continue
        hint = did_you_mean(name, known) or ("one of " + ", ".join(sorted(known)[:12]) if known else "")
        yield document.problem((*loc, key), what, hint)


def _tests(pack: PlaybookPack, around: Around) -> tuple[dict[int, Test], list[Problem]]:
    """The compiled conditions of triggers by their place, and what is wrong with them."""
    tests: dict[int, Test] = {}
    problems: list[Problem] = []
    for at, trigger in enumerate(pack.triggers):
        fields = around.fields.get(str(trigger.event))
        if trigger.when is None or fields is None:
            continue
        vocabulary = Vocabulary(fields=fields, kind=(str(trigger.event),), lists={}, unread=frozenset(around.lost))
        try:
            condition = read_expression(trigger.when, vocabulary, BOOL)
        except PackError as error:
            problems += error.problems
            continue
        closed = sorted(path for path in condition.paths if path in fields and fields[path].privacy != "public")
        if condition.windows:
            problems.append(trigger.when.problem(0, "a trigger counts by itself: no windows here", "use at_least"))
        elif closed:
            what = f"{closed[0]} is not public, and what a trigger counts is counted again out of the ledger"
            problems.append(trigger.when.problem(0, what, "ask about public fields, or let a rule find a signal"))
        else:
            tests[at] = value_of(condition)
    return tests, problems


def _of_step(document: Document, loc: Loc, step: StepText, pack: PlaybookPack, around: Around) -> Iterator[Problem]:
    if step.role not in pack.roles:
        hint = did_you_mean(step.role, pack.roles) or "one of " + ", ".join(pack.roles)
        yield document.problem((*loc, "role"), f"there is no role '{step.role}'", hint)
    if step.mode is None:
        if step.automatic:
            what = "Arbiter does nothing by itself but switch a mode on"
            yield document.problem((*loc, "automatic"), what, "add 'mode', or take 'automatic' out")
        return
    if around.modes is not None and step.mode.name not in around.modes:
        hint = did_you_mean(step.mode.name, around.modes) or "write what it does under 'modes' of a policy"
        yield document.problem((*loc, "mode", "name"), f"no policy has the mode '{step.mode.name}'", hint)
    if step.mode.for_ > LONGEST_MODE:
        what = "no mode is switched on for more than 7 days"
        yield document.problem((*loc, "mode", "for"), what, "write 7d, or less")


def _of_timer(document: Document, loc: Loc, timer: TimerText, pack: PlaybookPack) -> Iterator[Problem]:
    step = next((step for step in pack.steps if step.id == timer.step), None)
    if step is None:
        ids = [str(each.id) for each in pack.steps]
        hint = did_you_mean(timer.step, ids) or "one of " + ", ".join(ids)
        yield document.problem((*loc, "step"), f"there is no step '{timer.step}'", hint)
    elif step.within > timer.within:
        what = f"the step '{step.id}' has more time than this clock leaves"
        yield document.problem((*loc, "within"), what, "give the step less: the clock runs from when it became known")


def _of_messages(document: Document, pack: PlaybookPack) -> Iterator[Problem]:
    known = (*FILLED, *map(str, pack.blanks))
    used: set[str] = set()
    for at, message in enumerate(pack.messages):
        by_language = {language: set(_BLANK.findall(text)) for language, text in message.text.plain.items()}
        used |= set().union(*by_language.values())
        for language, names in by_language.items():
            for name in sorted(names - set(known)):
                hint = did_you_mean(name, known) or "add it to 'blanks'"
                loc = ("messages", at, "text", language)
                yield document.problem(loc, f"nobody says what '{{{name}}}' is", hint)
        for name in sorted((by_language["en"] ^ by_language["zh"]) & set(known)):
            what = f"'{{{name}}}' stands in one language only"
            yield document.problem(("messages", at, "text"), what, "the same is said in both")
    for name in pack.blanks:
        if name not in used:
            yield document.problem(("blanks", name), f"no message has the blank '{name}'", "take it out", key=True)
        elif name in FILLED:
            what = f"'{name}' is filled by Arbiter itself"
            yield document.problem(("blanks", name), what, "give it another name", key=True)


def filled(text: str, values: Mapping[str, str]) -> str:
    """A message with what is known in its blanks; the others stay as they are."""
    return _BLANK.sub(lambda blank: values.get(blank[1], blank[0]), text)
