"""From what the solver found possible to an event that can be played: a test, as people write them under a rule.

The solver's model says which fields are there and what they hold; for each window a history is put together that fills
it. What comes out is played by `engine.trial`, the same windows and matcher that decide online, before it is shown: the
solver may allow more than can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import z3

from engine.detectors import ANOMALY, FIELD
from engine.expr import MONEY, NUMBER, TEXT, Env, Expression, Type, Window, interpret
from engine.expr.nodes import Call, Field
from engine.money import Money
from engine.reasoning.encode import Encoding, Ground, ground
from engine.reasoning.solver import Questions
from engine.reasoning.terms import CODES, CURRENCY, YES, Amount, Listed, Term, Value
from engine.reasoning.texts import asks
from engine.reasoning.written import sent
from engine.rulebook import Rulebook
from engine.rules import Before, Rule, RuleTest
from engine.schema import FieldDef
from engine.trial import CLOCK, player

MOST_EARLIER = 200
"""Earlier events of a witness; a longer history teaches nobody anything."""
NEW_TEXTS = 1_000_000
"""Numbers from here on are texts that no condition writes."""
_HOME = CURRENCY["CNY"]


def ground_of(rulebook: Rulebook, kinds: tuple[str, ...]) -> Ground:
    """What conditions for these kinds of event stand on."""
    schema = rulebook.schema
    tables = [{**schema.fields(kind), **_anomaly(rulebook, kind)} for kind in kinds]
    return ground({kind: schema.required(kind) for kind in kinds}, kinds, tables)


def _anomaly(rulebook: Rulebook, kind: str) -> Mapping[str, FieldDef]:
    return {ANOMALY: FIELD} if rulebook.kinds[kind].detector is not None else {}


def wishes(encoding: Encoding) -> Iterator[Term]:
    """What makes a model one that people read easily, and that a test can play."""
    event = encoding.event
    if "at" in event.values:
        yield event.at_now
        yield event.of("at").value == CLOCK
    for value in (*event.values.values(), *encoding.windows.values.values()):
        if isinstance(value.value, Amount):
            yield value.value.currency == _HOME
    # Each text that may be any is one of its own: two fields that share one by chance may have to look different.
    texts = [value.value for path, value in event.values.items() if event.is_text(path)]
    yield from (term == NEW_TEXTS + number for number, term in enumerate(texts))
    yield from encoding.windows.warm()
    yield from (z3.Not(value.known) for value in event.values.values() if value.known is not YES)
    counted = [
        value.value for window, value in encoding.windows.values.items() if window.function in ("count", "distinct")
    ]
    yield from (value <= 20 for value in counted)
    # A list of texts holds what it has to, and not all that is written somewhere.
    for path, value in event.values.items():
        field = event.field(path)
        if isinstance(value.value, Listed) and field is not None and field.type == "list[text]":
            yield from (z3.Not(value.value.has(z3.IntVal(each))) for each in range(len(encoding.texts.written)))


@dataclass(frozen=True, slots=True)
class Imagined:
    """The event of a model as the engine would hold it, with what its windows hold. Nothing of it was played."""

    values: dict[str, Any]
    features: Mapping[Window, Any]
    env: Env

    def answer(self, condition: Expression) -> Any:
        """What the interpreter says of a condition here."""
        return interpret(condition, self.values, self.features, self.env)


class Witness:
    """Tests that come of one model. `rules` say what is played: each must do what the caller asks."""

    def __init__(self, rulebook: Rulebook, encoding: Encoding, kind: str, model: Any) -> None:
        self._rulebook = rulebook
        self._encoding = encoding
        self._kind = kind
        self._model = model
        self._texts: dict[int, str] = {}

    def test(self, it: str, expect: str, rules: Sequence[Rule]) -> RuleTest | None:
        """The model as a test of the rules; None where no history can be put together."""
        event = self.event()
        before: list[Before] = []
        for window, value in self._encoding.windows.values.items():
            earlier = self._history(window, value)
            if earlier is None:
                return None
            before += earlier
        if sum(each.repeat for each in before) > MOST_EARLIER:
            return None
        kind = self._kind if any(rule.kinds[0] != self._kind for rule in rules) else None
        return RuleTest.model_construct(it=it, before=before, kind=kind, event=event, expect=expect)

    def event(self) -> dict[str, Any]:
        """The fields that conditions asked for, by their paths, as a test writes them."""
        sample = self._rulebook.schema.sample_fields(self._kind)
        found: dict[str, Any] = {}
        for path, value in self._encoding.event.values.items():
            field = self._encoding.event.field(path)
            if path in ("kind", "event_id") or field is None:
                continue
            if not self.is_true(value.known):
                if path in sample:
                    found[path] = None
                continue
            if path == "at" and self._number(value.value) == CLOCK:
                continue
            found[path] = sent(self.value(value, field), Type(field.type))
        return found

    def values(self) -> dict[str, Any]:
        """The same fields as the engine holds them."""
        found = {}
        for path, value in self._encoding.event.values.items():
            field = self._encoding.event.field(path)
            if field is not None and self.is_true(value.known):
                found[path] = self.value(value, field)
        return found

    def features(self) -> dict[Window, Any]:
        """What the windows that are known hold."""
        windows = self._encoding.windows.values
        return {
            window: self.value(value, type_=window.type)
            for window, value in windows.items()
            if self.is_true(value.known)
        }

    def is_true(self, term: Term) -> bool:
        """Whether something holds in the model."""
        return bool(z3.is_true(self._model.eval(term, model_completion=True)))

    def answer(self, value: Value) -> bool | None:
        """The answer to a question in the model; None where it is unknown."""
        return self.is_true(value.value) if self.is_true(value.known) else None

    def value(self, value: Value, field: FieldDef | None = None, type_: Type | None = None) -> Any:
        """A value of the model as the engine holds it."""
        term, type_ = value.value, type_ or Type(field.type if field else "number")
        if isinstance(term, Amount):
            return Money(self._number(term.minor), CODES[int(self._number(term.currency))])
        if isinstance(term, Listed):
            return self._elements(term, field, type_)
        if type_ == TEXT:
            return self._text(term, field)
        if z3.is_bool(term):
            return self.is_true(term)
        return self._number(term)

    def _number(self, term: Term) -> int | Decimal:
        found = self._model.eval(term, model_completion=True)
        if z3.is_int_value(found):
            return int(found.as_long())
        exact = found.as_fraction() if z3.is_rational_value(found) else found.approx(6).as_fraction()
        number = (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(Decimal("0.000001"))
        return int(number) if number == int(number) else number.normalize()

    def _text(self, term: Term, field: FieldDef | None) -> str:
        """A text with the number that the model gives: one that is written somewhere, or a new one."""
        number = int(self._number(term))
        written = self._encoding.texts.written
        if 0 <= number < len(written):
            return written[number]
        if number not in self._texts:
            self._texts[number] = self._new_text(term, field)
        return self._texts[number]

    def _new_text(self, term: Term, field: FieldDef | None) -> str:
        """A text that is written nowhere and answers the questions as the model has it, if one is found."""
        taken = {*self._encoding.texts.written, *self._texts.values()}
        wanted = [(name, what, self.is_true(answer)) for name, what, answer in self._encoding.texts.questions(term)]
        parts = {name: [str(what) for asked, what, holds in wanted if asked == name and holds] for name, _, _ in wanted}
        begin = max(parts.get("starts with", [""]), key=len, default="")
        middle = "".join(parts.get("contains", []))
        end = max(parts.get("ends with", [""]), key=len, default="")
        fillers = [str(field.example)] if field is not None and isinstance(field.example, str) else []
        fillers += [f"a{number}" for number in range(1, 40)]
        tries = [*(filler for filler in fillers if not (begin or middle or end))]
        tries += [begin + middle + end, *(begin + filler + middle + end for filler in fillers)]
        for text in tries:
            fits = field is None or field.takes(text)
            if text not in taken and fits and all(asks(name, text, what) == holds for name, what, holds in wanted):
                return text
        return fillers[-1]

    def _elements(self, term: Listed, field: FieldDef | None, type_: Type) -> list[Any]:
        """What a list holds: all that was asked for and is there, then others up to its size."""
        found: list[Any] = []
        if type_.element == TEXT:
            for number, text in enumerate(self._encoding.texts.written):
                if self.is_true(term.has(z3.IntVal(number))):
                    found.append(text)
        if self.is_true(term.gap):
            found.append(None)
        size = int(self._number(term.size))
        example = field.example[0] if field is not None and isinstance(field.example, list) else None
        other = example if example is not None else field.example if field is not None else "x"
        return (found + [other] * size)[: max(size, len(found))]

    # Histories

    def _history(self, window: Window, value: Value) -> list[Before] | None:
        """Earlier events that make the window hold what the model says; None where that is not known how."""
        if not self.is_true(value.known):
            return []
        if window.steps or window.groups or not window.kinds:
            return None
        wanted = self.value(value, type_=window.type)
        here = self._holds_this(window)
        if window.function == "count":
            return self._repeated(window, int(wanted) - here)
        if window.function == "distinct":
            return self._different(window, int(wanted) - here)
        if window.function in ("sum", "avg", "min", "max", "median", "quantile") and not here:
            return self._one(window, wanted)
        return None

    def _holds_this(self, window: Window) -> int:
        """How many of what the window holds is the event itself."""
        if not window.including_this or self._kind not in window.kinds:
            return 0
        if window.where is not None and not self.is_true(self._encoding.value(window.where.tree).true):
            return 0
        argument = window.argument.tree if window.argument else None
        return int(argument is None or self.is_true(self._encoding.value(argument).known))

    def _repeated(self, window: Window, times: int) -> list[Before] | None:
        if times <= 0:
            return [] if times == 0 else None
        event = self._earlier(window)
        every = _step(window.length, times)
        return None if event is None else [self._before(window, event, every, repeat=times, every=every)]

    def _different(self, window: Window, times: int) -> list[Before] | None:
        argument = window.argument.tree if window.argument else None
        event = self._earlier(window)
        if times <= 0 or event is None or not isinstance(argument, Field) or argument.type != TEXT:
            return [] if times == 0 else None
        every = _step(window.length, times)
        return [
            self._before(window, {**event, argument.path: f"other-{number}"}, every * number)
            for number in range(times, 0, -1)
        ]

    def _one(self, window: Window, wanted: Any) -> list[Before] | None:
        """One event with the value that is wanted."""
        argument = window.argument.tree if window.argument else None
        while isinstance(argument, Call) and argument.row.form == "convert":
            argument = argument.args[0]
        event = self._earlier(window)
        if event is None or not isinstance(argument, Field) or argument.type not in (MONEY, NUMBER):
            return None
        if isinstance(wanted, Money):
            wanted = Money(round(wanted.minor), wanted.currency)
            if wanted.minor == 0 and window.function == "sum":
                return []
        return [self._before(window, {**event, argument.path: sent(wanted, argument.type)}, _step(window.length, 1))]

    def _before(self, window: Window, event: Mapping[str, Any], ago: int, *, repeat: int = 1, every: int = 0) -> Before:
        kind = window.kinds[0]
        fields: dict[str, Any] = {"event": dict(event), "ago": ago, "kind": None if kind == self._kind else kind}
        fields |= {"repeat": repeat, "every": every} if repeat > 1 else {"repeat": 1, "every": ago}
        return Before.model_construct(**fields)

    def _earlier(self, window: Window) -> dict[str, Any] | None:
        """An event that the window counts, of the same key as the one that is judged."""
        now = self.event()
        keys = {path: now[path] for path in window.by if now.get(path) is not None}
        if len(keys) < len(window.by):
            return None
        kind = window.kinds[0]
        event = _that_is(self._rulebook, kind, window.where, keys) if window.where else {}
        return None if event is None else {**event, **keys}


def _step(length: int, times: int) -> int:
    """A time between events, such that all of them fall into the window: whole seconds where there is room."""
    step = length // (times + 1)
    return max(1, step // 1_000_000 * 1_000_000 or step)


def _that_is(rulebook: Rulebook, kind: str, where: Expression, keys: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of an event of that kind of which the condition is true."""
    try:
        encoding = Encoding(ground_of(rulebook, (kind,)))
        value = encoding.value(where.tree)
    except KeyError:
        return None  # an outcome's condition may name fields of the event that it refers to
    questions = Questions()
    with questions.given(list(encoding.facts())):
        found = questions.nicest([value.true], wishes(encoding))
    if not found.possible:
        return None
    event = Witness(rulebook, encoding, kind, found.model).event()
    return {path: each for path, each in event.items() if path not in keys}


def played(rulebook: Rulebook, rules: Sequence[Rule], test: RuleTest | None) -> RuleTest | None:
    """The test, if every one of the rules does at it what it expects."""
    if test is None:
        return None
    fits = all(player(rulebook, rule)(test) == test.expect for rule in rules)
    return test if fits else None
