"""Rules: the YAML of a rule pack, checked and compiled into conditions with a finding behind each.

A pack says what kinds of event it is `for`, may name values with `let`, and lists rules. A rule fires when its
condition is true; what happens when it is unknown is the rule's own `if_unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from engine.errors import PackError, Problem, did_you_mean
from engine.expr import BOOL, DURATION, INSTANT, RESERVED, TEXT, Expression, Type, Vocabulary, Window, pattern, read
from engine.expr.nodes import Call, Node, plainly, walk
from engine.expr.nodes import Field as PathNode
from engine.expr.nodes import Literal as WrittenNode
from engine.packs import FORMAT_MEANS, LAW_ID, Document, Form, Loc, Text, text, validate
from engine.packs.durations import Duration
from engine.rollout import Rollout, RolloutText
from engine.schema import FieldDef
from engine.verdict import Finding

_NAME = "[a-z][a-z0-9_]*"
_NAMED = Form(_NAME, "write small letters, digits and '_', beginning with a letter, such as card_testing")
_RULE_ID = Form(
    r"[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)+",
    "write the file's name, a dot and a name, such as card-testing.burst",
)
_REASON = Form(
    r"[\s\S]*[^\s\u00ad\u180e\u200b-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3164\ufeff][\s\S]*",
    "a reason must not be blank: write what a person reads, in this language too",
)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

MINUTE = 60_000_000
"""One minute in µs."""

Signal = Annotated[Text, _NAMED]
Kinds = Text | Annotated[list[Text], Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Because(_Model):
    """The reason a person reads, as a template per language; `{name}` shows a `let` name or a public field."""

    en: Annotated[Text, _REASON] = Field(max_length=400, description="the reason in English; {name} shows a value")
    zh: Annotated[Text, _REASON] = Field(max_length=400, description="the reason in Chinese; {name} shows a value")


class Basis(_Model):
    """What the rule rests on: a house policy with a date to look at it again, or articles of law."""

    kind: Literal["house-policy"] | None = Field(default=None, description="house-policy, where no law asks for it")
    review_by: date | None = Field(default=None, description="the day by which somebody looks at the rule again")
    law: list[Annotated[Text, LAW_ID]] = Field(default=[], description="articles of law, such as cn.ecl.13")
    as_of: date | None = Field(default=None, description="the day whose law the rule was written for")


class Before(_Model):
    """Earlier events of a test: `repeat` of them, `every` apart.

    The last one happens `ago` before the tested event, or one `every` before what comes next in the test.
    """

    kind: str | None = Field(default=None, description="the kind of these events; the first of the pack's when absent")
    repeat: int = Field(default=1, ge=1, le=10_000, description="how many of them")
    every: Duration = Field(default=MINUTE, description="the time between two of them")
    ago: Duration | None = Field(default=None, description="how long before the tested event the last one happens")
    event: dict[str, Any] = Field(default={}, description="the fields of each: path → value")


class RuleTest(_Model):
    """An inline test: a history, an event and what the rule must do."""

    it: str = Field(max_length=200, description="what the rule does, as a sentence: fires on the fifth attempt")
    before: list[Before] = Field(default=[], description="events that happened earlier")
    kind: str | None = Field(default=None, description="the kind of the event; the first of the pack's when absent")
    event: dict[str, Any] = Field(default={}, description="the fields of the event that the rule is asked about")
    expect: Literal["fires", "quiet", "unknown"] = Field(description="what the rule must do: fires, quiet or unknown")


class RuleText(_Model):
    """One rule as written."""

    id: Annotated[Text, _RULE_ID] = Field(max_length=80, description="the file's name, a dot and a name")
    when: Text = Field(description="the condition; the rule fires when it is true")
    signal: Signal = Field(max_length=64, description="what the rule finds; policies speak of signals")
    severity: Literal["info", "low", "medium", "high", "critical"] = Field(
        default="medium", description="how grave the finding is"
    )
    hard: bool = Field(default=False, description="true for what no exception, at_most or breaker may soften")
    points: int = Field(default=0, ge=0, le=1000, description="what it adds to the score")
    group: str = Field(default="", max_length=64, description="of one group only the highest points count")
    because: Because = Field(description="the reason that a person reads, in English and Chinese")
    basis: Basis = Field(description="what the rule rests on: a house policy with a day to look again, or law")
    mode: Literal["live", "shadow", "off"] = Field(
        default="live", description="live; shadow: recorded, but nothing follows; off: not asked"
    )
    rollout: RolloutText | None = Field(
        default=None, description="live for a share of all keys, in the shadow for the others: 25% by buyer.account"
    )
    if_unknown: Signal = Field(
        default=text("quiet"), max_length=64, description="when the condition is unknown: quiet, fire, or a signal"
    )
    tests: list[RuleTest] = Field(default=[], max_length=200, description="what the rule must do, by example")


class StepText(_Model):
    """What one event of a pattern is: its kind, or several, and what must be true of it."""

    event: Kinds = Field(description="a kind of event, or several")
    where: Text | None = Field(default=None, description="what must be true of the event")


class PatternText(_Model):
    """Events of one key that follow each other within a time, or one that another did not follow.

    `sequence` takes two to eight steps, in their order. `absence` takes two: the first, and the one that did not come
    in the time of `for` after it.
    """

    sequence: list[StepText] = Field(default=[], max_length=8, description="two to eight steps, in their order")
    absence: list[StepText] = Field(
        default=[], max_length=2, description="a first step, and the second one that did not follow it"
    )
    lasting: Duration | None = Field(
        default=None, alias="for", description="of an absence: how long the second step did not come"
    )
    within: Duration = Field(description="how far to look back")
    by: Text | Annotated[list[Text], Field(min_length=1, max_length=8)] = Field(
        description="the field, or fields, that all steps share: buyer.account"
    )


class RulePack(_Model):
    """A file of rules."""

    format: Literal[1] = Field(default=1, description=FORMAT_MEANS)
    pack: str = Field(max_length=120, description="its name; by habit the path of the file")
    about: str = Field(max_length=2000, description="what it is against, for whoever reads it next")
    kinds: Kinds = Field(alias="for", description="a kind of event, or several, that its rules are asked about")
    owner: str = Field(max_length=120, description="who answers for it")
    patterns: dict[Signal, PatternText] = Field(default={}, description="name → what several events show together")
    let: dict[Signal, Text] = Field(default={}, description="name → value, for conditions and messages")
    rules: list[RuleText] = Field(min_length=1, max_length=20_000, description="one or more rules")


_PACK_KEYS = frozenset(field.alias or name for name, field in RulePack.model_fields.items())


@dataclass(frozen=True)
class Rule:
    """A rule that has been checked: its condition is typed, its finding is ready, its message knows its values.

    `searched` are the texts in which it looks for phrases of which is told where they stand: path and list.
    """

    id: str
    pack: str
    kinds: tuple[str, ...]
    owner: str
    mode: str
    rollout: Rollout | None
    if_unknown: str
    condition: Expression
    finding: Finding
    shown: Mapping[str, Expression]
    searched: tuple[tuple[str, str], ...]
    review_by: date | None
    tests: tuple[RuleTest, ...]
    document: Document
    loc: Loc

    @property
    def watched(self) -> bool:
        """Whether it matters that the condition is unknown, beside the record."""
        return self.if_unknown != "quiet"

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows that the condition or the message reads."""
        shown = (window for expression in self.shown.values() for window in expression.windows)
        return tuple(dict.fromkeys((*self.condition.windows, *shown)))

    @property
    def lists(self) -> frozenset[str]:
        """The lists that the condition looks into, and those whose phrases it or the message tells."""
        return self.condition.lists.union(name for _, name in self.searched)

    def when_unknown(self) -> Finding | None:
        """The finding that an unknown condition gives."""
        if self.if_unknown == "quiet":
            return None
        if self.if_unknown == "fire":
            return self.finding
        return Finding(rule=self.id, signal=self.if_unknown)


@dataclass(frozen=True)
class PackReader:
    """Reads rule packs against the fields, lists and kinds of one rulebook; problems pile up in `problems`."""

    vocabulary: Callable[[tuple[str, ...]], Vocabulary]
    kinds: tuple[str, ...]
    problems: list[Problem]

    def rules(self, document: Document) -> tuple[Rule, ...]:
        """The rules of one file; what is wrong with it goes to `problems`."""
        try:
            pack = validate(document, RulePack)
        except PackError as error:
            self.problems.extend(error.problems)
            self._read_loosely(document)
            return ()
        kinds = self._kinds(document, pack.kinds)
        if not kinds:
            return ()
        patterns = self._patterns(document, pack.patterns, self.vocabulary(kinds))
        vocabulary = self.names(document, pack.let, patterns)
        return tuple(self._rules(document, pack, kinds, vocabulary))

    def _read_loosely(self, document: Document) -> None:
        """The problems of the conditions, messages and bases of a file whose shape is wrong elsewhere."""
        data = document.data if isinstance(document.data, dict) else {}
        kinds, let = _loose(Kinds, data.get("for")), data.get("let")
        known = self._kinds(document, kinds) if kinds else ()
        if not known:
            return
        sound = {name: text for name, text in let.items() if _is_let(name, text)} if isinstance(let, dict) else {}
        vocabulary = self.names(document, sound, _without(self.vocabulary(known), _names_in(data.get("patterns"))))
        # Whoever writes `lets:` has told of one mistake, not of one more wherever a name of it is used.
        misspelt = [part for key, part in data.items() if key not in _PACK_KEYS]
        vocabulary = _without(vocabulary, _names_in([let, *misspelt]) - sound.keys())
        rules = data.get("rules")
        for index, rule in enumerate(rules if isinstance(rules, list) else ()):
            if not isinstance(rule, dict):
                continue
            if (when := _loose(Text, rule.get("when"))) is not None:
                self.read(when, vocabulary, BOOL)
            because = rule.get("because")
            templates = because.values() if isinstance(because, dict) else ()
            self.shown([each for each in templates if isinstance(each, Text)], vocabulary)
            if (basis := _loose(Basis, rule.get("basis"))) is not None:
                self._check_basis(document, ("rules", index, "basis"), basis)

    def _kinds(self, document: Document, named: Kinds, at: Loc = ("for",)) -> tuple[str, ...]:
        single = isinstance(named, str)
        kinds = (str(named),) if isinstance(named, str) else tuple(map(str, named))
        wrong = [index for index, kind in enumerate(kinds) if kind not in self.kinds]
        for index in wrong:
            hint = did_you_mean(kinds[index], self.kinds) or "one of: " + ", ".join(self.kinds)
            loc: Loc = at if single else (*at, index)
            self.problems.append(document.problem(loc, f"there is no kind of event '{kinds[index]}'", hint))
        return tuple(dict.fromkeys(kind for kind in kinds if kind in self.kinds))

    def _patterns(self, document: Document, patterns: Mapping[Text, PatternText], vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary with the pack's patterns as names."""
        plain = vocabulary
        for name, written in patterns.items():
            if self._taken(document, ("patterns", name), name, vocabulary):
                continue
            expression = self._pattern(document, ("patterns", str(name)), written, plain)
            vocabulary = _with(vocabulary, str(name), expression)
        return vocabulary

    def _pattern(self, document: Document, loc: Loc, written: PatternText, vocabulary: Vocabulary) -> Expression | None:
        before = len(self.problems)
        function, steps = ("sequence", written.sequence) if written.sequence else ("absence", written.absence)
        if bool(written.sequence) == bool(written.absence) or len(steps) < 2:
            what = "a pattern is a sequence of two to eight steps, or the absence of a second step after a first"
            hint = "write sequence: [{event: account, where: …}, …] or absence: [{event: …}, {event: …}]"
            self.problems.append(document.problem(loc, what, hint, key=True))
        if written.lasting is None and function == "absence":
            what = "an absence says how long the second step did not come: 'for' is missing"
            self.problems.append(document.problem(loc, what, "such as for: 48h", key=True))
        elif written.lasting is not None and function == "sequence":
            what = "a sequence has no 'for'; how far to look back is said by 'within'"
            self.problems.append(document.problem(loc, what, "take 'for' out", key=True))
        elif written.lasting is not None and written.lasting > written.within:
            what = "nothing within this time can be so long ago"
            self.problems.append(document.problem((*loc, "within"), what, "make it longer than 'for'"))
        kinds = [self._kinds(document, step.event, (*loc, function, at, "event")) for at, step in enumerate(steps)]
        if len(self.problems) > before:
            return None
        by = [written.by] if isinstance(written.by, Text) else written.by
        try:
            return pattern(
                function,
                [(own, step.where) for own, step in zip(kinds, steps, strict=True)],
                by,
                written.within,
                vocabulary,
                written.lasting or 0,
            )
        except PackError as error:
            self.problems.extend(error.problems)
            return None

    def _taken(self, document: Document, loc: Loc, name: str, vocabulary: Vocabulary) -> bool:
        """Whether a name is something else already, which is a problem."""
        if name in vocabulary.names:
            taken = "a pattern of this file"
        elif name in vocabulary.fields:
            taken = "a field of the event"
        elif name in vocabulary.groups:
            taken = "a group of linked accounts"
        elif name in RESERVED:
            taken = "a word of the language"
        else:
            return False
        self.problems.append(document.problem(loc, f"'{name}' is already {taken}", "choose another name", key=True))
        return True

    def names(self, document: Document, let: Mapping[Text, Text], vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary with the pack's `let` names."""
        for name, source in let.items():
            if self._taken(document, ("let", str(name)), str(name), vocabulary):
                continue
            expression = self.read(source, vocabulary)
            vocabulary = _with(vocabulary, str(name), expression)
        return vocabulary

    def _rules(
        self,
        document: Document,
        pack: RulePack,
        kinds: tuple[str, ...],
        vocabulary: Vocabulary,
    ) -> Iterator[Rule]:
        for index, written in enumerate(pack.rules):
            loc = ("rules", index)
            condition = self.read(written.when, vocabulary, BOOL)
            shown = self.shown((written.because.en, written.because.zh), vocabulary)
            self._check_basis(document, (*loc, "basis"), written.basis)
            self._check_rollout(document, (*loc, "rollout"), written, vocabulary)
            if condition is not None:
                yield Rule(
                    id=str(written.id),
                    pack=str(pack.pack),
                    kinds=kinds,
                    owner=str(pack.owner),
                    mode=written.mode,
                    rollout=written.rollout,
                    if_unknown=str(written.if_unknown),
                    condition=condition,
                    finding=Finding(
                        rule=str(written.id),
                        signal=str(written.signal),
                        severity=written.severity,
                        points=written.points,
                        hard=written.hard,
                        group=str(written.group),
                        because={"en": str(written.because.en), "zh": str(written.because.zh)},
                        cites=tuple(map(str, written.basis.law)),
                    ),
                    shown=shown,
                    searched=_searched((condition.tree, *(each.tree for each in shown.values())), vocabulary),
                    review_by=written.basis.review_by,
                    tests=tuple(written.tests),
                    document=document,
                    loc=loc,
                )

    def read(self, source: Text, vocabulary: Vocabulary, wanted: Type | None = None) -> Expression | None:
        """The expression, or None where it has problems."""
        try:
            return read(source, vocabulary, wanted)
        except PackError as error:
            self.problems.extend(error.problems)
            return None

    def shown(self, templates: Iterable[Text], vocabulary: Vocabulary) -> Mapping[str, Expression]:
        """The values the templates show. Reasons go to the caller and the log, so personal values are refused."""
        shown: dict[str, Expression] = {}
        for template in templates:
            for place in _PLACEHOLDER.finditer(template):
                name = place.group(1)
                expression = self._placeholder(template, place, vocabulary)
                if expression is not None:
                    shown[name] = expression
        return shown

    def _placeholder(self, template: Text, place: re.Match[str], vocabulary: Vocabulary) -> Expression | None:
        name = place.group(1)
        known = (*vocabulary.names, *vocabulary.fields)
        if name not in known and name in vocabulary.unread:
            return None
        if name not in known:
            hint = did_you_mean(name, known) or "show a `let` name or a field of the event"
            self._point(template, place, f"the message shows '{name}', which is not known", hint)
            return None
        expression = read(name, vocabulary)
        seen = plainly(expression.tree)
        personal = sorted(path for path in expression.paths if _private(vocabulary.fields[path], path in seen))
        if personal:
            what = f"the message shows '{name}', which holds personal data ({', '.join(personal)})"
            self._point(template, place, what, "messages are logged: show counts, amounts or public fields")
            return None
        return expression

    def _point(self, template: Text, place: re.Match[str], what: str, hint: str) -> None:
        self.problems.append(template.problem(place.start(), what, hint, len(place.group(0))))

    def _check_rollout(self, document: Document, loc: Loc, written: RuleText, vocabulary: Vocabulary) -> None:
        rollout = written.rollout
        if rollout is None:
            return
        field = vocabulary.fields.get(rollout.by)
        if written.mode != "live":
            what = f"a rule in mode {written.mode} counts for nobody, so there is nothing to roll out"
            self.problems.append(document.problem(loc, what, "write mode: live, or take the rollout out"))
        if field is None and rollout.by not in vocabulary.unread:
            hint = did_you_mean(rollout.by, vocabulary.fields)
            self.problems.append(document.problem(loc, f"there is no field '{rollout.by}' to draw by", hint))
        elif field is not None and not _names_one(field):
            what = f"'{rollout.by}' names nobody and nothing, so nothing can be drawn by it"
            hint = "draw by an account, a card, a device, a merchant or another name of one thing"
            self.problems.append(document.problem(loc, what, hint))

    def _check_basis(self, document: Document, loc: Loc, basis: Basis) -> None:
        if bool(basis.law) == bool(basis.kind):
            what = "a rule rests either on a house policy or on articles of law"
            hint = "write {kind: house-policy, review_by: 2027-05-31} or {law: [cn.ecl.13]}"
            self.problems.append(document.problem(loc, what, hint))
        elif basis.kind and basis.review_by is None:
            what = "a house policy needs the date on which someone looks at it again"
            self.problems.append(document.problem(loc, what, "add review_by: with a date"))
        elif basis.kind and basis.as_of is not None:
            what = "as_of is the day of the law that a rule rests on; a house policy rests on none"
            self.problems.append(document.problem((*loc, "as_of"), what, "take as_of out"))


def _private(field: FieldDef, seen: bool) -> bool:
    """Whether a value keeps a message from being shown: one that is seen in it, or that is about a person."""
    return field.privacy != "public" and (seen or field.privacy != "free_text")


def _searched(trees: Iterable[Node], vocabulary: Vocabulary) -> tuple[tuple[str, str], ...]:
    """The texts in which phrases with disguises are looked for, each with the list: where they stand may be told of
    texts that are public, or about goods and not about a person."""
    asked = [
        (call.args[0].path, str(call.args[1].value))
        for tree in trees
        for call in walk(tree)
        if isinstance(call, Call) and "name" in call.row.args
        if isinstance(call.args[0], PathNode) and isinstance(call.args[1], WrittenNode)
    ]
    told = (
        (path, name)
        for path, name in asked
        if (vocabulary.lists or {}).get(name) == "disguised phrase" and not _private(vocabulary.fields[path], False)
    )
    return tuple(dict.fromkeys(told))


def _names_one(field: FieldDef) -> bool:
    """Whether a value of the field is the name of one thing that may be spoken of."""
    return field.type == "text" and bool(field.entity or field.privacy == "public")


def _loose(kind: Any, value: Any) -> Any:
    """The value as what it should be, or None."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _with(vocabulary: Vocabulary, name: str, expression: Expression | None) -> Vocabulary:
    """With one more name; one that could not be read is a problem once, not wherever it is used."""
    if expression is None:
        return _without(vocabulary, [name])
    return replace(vocabulary, names={**vocabulary.names, name: expression})


def _without(vocabulary: Vocabulary, names: Iterable[str]) -> Vocabulary:
    return replace(vocabulary, unread=vocabulary.unread.union(names))


def _is_let(name: Any, source: Any) -> bool:
    return isinstance(name, Text) and isinstance(source, Text)


def _names_in(let: Any) -> frozenset[str]:
    """The names that a `let` of any shape may mean to give."""
    if isinstance(let, dict):
        return frozenset(map(str, let))
    return frozenset().union(*map(_names_in, let)) if isinstance(let, list) else frozenset()


def message(template: str, shown: Mapping[str, str]) -> str:
    """The template with its placeholders filled."""
    return _PLACEHOLDER.sub(lambda place: shown.get(place.group(1), "?"), template)


_UNKNOWN = {"en": "unknown", "zh": "未知"}
_TRUE = {"en": "yes", "zh": "是"}
_FALSE = {"en": "no", "zh": "否"}
_UNITS = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000))
_SHOWN_ITEMS = 5


def show(value: Any, type_: Type, language: str, zone: tzinfo = UTC) -> str:
    """A value as a person reads it in a message: '4980.00 CNY', '3d 4h', '2026-11-20T00:30:00Z', 'unknown'.

    Messages are in UTC; `zone` is for those who show a value beside a condition.
    """
    if value is None:
        return _UNKNOWN[language]
    if isinstance(value, bool):
        return (_TRUE if value else _FALSE)[language]
    if isinstance(value, list):
        shown = ", ".join(show(item, type_.element or TEXT, language, zone) for item in value[:_SHOWN_ITEMS])
        return shown + (" …" if len(value) > _SHOWN_ITEMS else "")
    if type_ == INSTANT:
        return datetime.fromtimestamp(value // 1_000_000, zone).isoformat().replace("+00:00", "Z")
    if type_ == DURATION:
        return show_duration(value, 2)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return str(value)


def show_duration(microseconds: int, parts: int | None = None) -> str:
    """A length of time in days, hours, minutes and seconds: '6d 23h 59m 59s'; with `parts`, so many of them."""
    sign, rest, shown = "-" if microseconds < 0 else "", abs(microseconds), []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            shown.append(f"{count}{unit}")
    return sign + (" ".join(shown[:parts]) or "0s")
