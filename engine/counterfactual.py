"""The smallest change that would have given a milder verdict: what a decision hung on (CJEU C-203/22).

    found = counterfactual(record, rulebook)
    found.changes        (Change(amount: 5200.00 CNY → 5000.00 CNY),)     as few as there are, then as small

Fields and window values are changed and the engine's own matcher and policy judge again from the record. Nothing is
claimed that they do not say. Of a text in which phrases of a list were found, what can be otherwise is that it has none
of them. Other questions about personal values and lists stand as they were answered, for their values are not in the
record; so do the anomaly, tier, exceptions, breakers, queues and modes.

The search tries one change, then two, then three; among equally many the least relative change. It ends with its time,
and says so: then there may be a smaller one, or one at all.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, product
from typing import Any

from engine.decide import conclude
from engine.detectors import ANOMALY
from engine.errors import RequestRefused, did_you_mean
from engine.expr import Atom, Env, Literal, walk
from engine.money import Money
from engine.rulebook import KindBook, Rulebook
from engine.schema import FieldDef, at_path, decode, masked_paths
from engine.verdict import Outcome

MOST = 3
"""Changes at once that are tried."""

SECONDS = 5.0
"""How long it is looked for, unless somebody says otherwise."""

_HALVINGS = 40
_FIXED = frozenset({"at", "event_id", "kind", "order_id"})
"""What names an event, or when it was: nothing that could have been otherwise."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field (`path`), or the value of a window, as it was and as it would have to be. Of a text, `before` are the
    phrases that were found in it (a tuple), and `after` has none."""

    name: str
    path: str | None
    before: Any
    after: Any

    @property
    def way(self) -> str:
        """`less`, `more`, or `other` where neither can be said."""
        before, after = _number(self.before), _number(self.after)
        if before is None or after is None:
            return "other"
        return "less" if after < before else "more"

    @property
    def size(self) -> Fraction:
        """The relative change of a number; 1 of anything else."""
        before, after = _number(self.before), _number(self.after)
        if before is None or after is None:
            return Fraction(1)
        return abs(after - before) / max(abs(before), Fraction(1))


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: the verdict as decided, the milder one with its changes (none where there was none), how many
    events were judged, and whether all of up to MOST changes were tried or the time was over first."""

    before: str
    after: str | None
    changes: tuple[Change, ...]
    tried: int
    complete: bool


def counterfactual(
    record: Mapping[str, Any],
    rulebook: Rulebook,
    *,
    to: str | None = None,
    fields: Collection[str] | None = None,
    windows: bool = True,
    seconds: float = SECONDS,
) -> Found:
    """The smallest change of a decision's values that gives a milder verdict, or `to` or a milder one than that.

    `fields` are those that may be changed, None for all public ones; with `windows` what happened before may be
    otherwise, too. `rulebook` is the one the record pins. RequestRefused for a verdict that the policy does not have.
    """
    kind = rulebook.kinds[record["event"]["kind"]]
    assert kind.policy is not None, "a recorded decision had a policy"
    verdicts, before = kind.policy.verdicts, str(record["verdict"])
    if to is not None and to not in verdicts:
        raise RequestRefused(f"the policy has no verdict '{to}'; {did_you_mean(to, verdicts) or ', '.join(verdicts)}")
    aim = verdicts.index(before) - 1 if to is None else verdicts.index(to)
    trial = _Trial(record, rulebook, kind, time.monotonic() + seconds)
    if aim < 0 or verdicts.index(before) <= aim:
        return Found(before, None, (), 0, True)
    good = frozenset(verdicts[: aim + 1])
    options = _options(trial, list(_variables(trial, fields, windows)))
    return _searched(trial, options, good, before)


# Judging again


@dataclass(frozen=True, slots=True, eq=False)
class _Variable:
    """Something that can be otherwise: a field by its path, or a window by its slot. `values` are tried. Of phrases in
    a text, `answers` are the questions that are false without them, as a mask."""

    name: str
    path: str | None
    slot: int
    now: Any
    values: tuple[Any, ...]
    answers: int = 0


Setting = Mapping[_Variable, Any]


class _Trial:
    """One record, judged again with other values. Counts how often, and knows when the time is over."""

    def __init__(self, record: Mapping[str, Any], rulebook: Rulebook, kind: KindBook, until: float) -> None:
        self.record = record
        self.rulebook = rulebook
        self.kind = kind
        self.tried = 0
        self._until = until
        self._true, self._unknown = (int(record["atoms"][name], 16) for name in ("true", "unknown"))
        self.values: dict[str, Any] = decode(record["event"]["public"])
        self.features: list[Any] = [None] * len(rulebook.windows)
        for slot, value in zip(kind.slots, record["features"], strict=True):
            self.features[slot] = decode(value)
        event = record["event"]
        self.env = Env(event["at"], event["received_at"], {}, rulebook.convert)
        self.fields: Mapping[str, FieldDef] = rulebook.schema.fields(kind.kind)
        self.asked = self._asked()

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._until

    def _asked(self) -> int:
        """The questions that can be asked again, as a mask: about public fields and windows, and no list. What rules
        saw of a text that stands masked in the record nobody can ask again."""
        masked = frozenset(masked_paths(self.values))
        return sum(
            1 << number
            for number, atom in enumerate(self.kind.matcher.atoms)
            if not atom.lists
            and not masked.intersection(atom.paths)
            and all(path == ANOMALY or self.fields[path].privacy == "public" for path in atom.paths)
        )

    def judged(self, setting: Setting) -> Outcome:
        """The outcome with some values otherwise: the real matcher's answers, and the real policy's verdict."""
        self.tried += 1
        values, features = self.values, list(self.features)
        without = 0
        for variable, value in setting.items():
            if variable.answers:
                without |= variable.answers
            elif variable.path is None:
                features[variable.slot] = value
            else:
                values = _with(values, variable.path.split("."), value)
        if self.record["anomaly"] is not None:
            values = {**values, ANOMALY: Decimal(self.record["anomaly"])}
        match = self.kind.matcher(values, features, self.env)
        true = (self._true & ~self.asked | match.true & self.asked) & ~without
        unknown = (self._unknown & ~self.asked | match.unknown & self.asked) & ~without
        atoms = {"true": f"{true:x}", "unknown": f"{unknown:x}"}
        return conclude(self.kind, {**self.record, "atoms": atoms})


def _with(values: Mapping[str, Any], parts: Sequence[str], value: Any) -> dict[str, Any]:
    """The values with another one at a path."""
    head, *rest = parts
    inner = values.get(head)
    return {**values, head: _with(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value}


# What can be otherwise


def _variables(trial: _Trial, allowed: Collection[str] | None, windows: bool) -> Iterator[_Variable]:
    """The fields and windows that some question reads, with the values that questions compare them with."""
    atoms = [atom for number, atom in enumerate(trial.kind.matcher.atoms) if trial.asked >> number & 1]
    # What another value would be on a list nobody can say: the record holds answers, and not what was on the lists.
    listed = {path for atom in trial.kind.matcher.atoms if atom.lists for path in atom.paths}
    for path in sorted({path for atom in atoms for path in atom.paths} - _FIXED - {ANOMALY} - listed):
        now = at_path(trial.values, path)
        if (allowed is None or path in allowed) and not isinstance(now, list | Mapping) and _plain(trial, path):
            reading = [atom for atom in atoms if path in atom.paths]
            yield _Variable(path, path, -1, now, tuple(_values(trial, trial.fields[path], now, reading)))
    slots = {window: slot for slot, window in enumerate(trial.rulebook.windows)}
    for window in {each: None for atom in atoms for each in atom.windows} if windows else ():
        now = trial.features[slots[window]]
        if now is not None:
            reading = [atom for atom in atoms if window in atom.windows]
            yield _Variable(window.name, None, slots[window], now, tuple(_near(trial, now, reading)))
    yield from _phrases(trial, allowed)


def _phrases(trial: _Trial, allowed: Collection[str] | None) -> Iterator[_Variable]:
    """The texts in which phrases were found, each without all of them."""
    found: dict[str, dict[tuple[str, str], None]] = {}
    for hit in trial.record.get("hits", ()):
        path = hit["field"].partition("[")[0]
        found.setdefault(path, {})[hit["list"], hit["phrase"]] = None
    for path, hits in found.items():
        lists = {name for name, _ in hits}
        answers = sum(
            1 << number
            for number, atom in enumerate(trial.kind.matcher.atoms)
            if atom.paths == {path} and atom.lists and atom.lists <= lists
        )
        if answers and (allowed is None or path in allowed):
            yield _Variable(path, path, -1, tuple(phrase for _, phrase in hits), ((),), answers)


def _plain(trial: _Trial, path: str) -> bool:
    """Whether the path leads through no list of objects."""
    parents = path.split(".")[:-1]
    return not any(isinstance(at_path(trial.values, ".".join(parents[: n + 1])), list) for n in range(len(parents)))


def _values(trial: _Trial, field: FieldDef, now: Any, reading: Sequence[Atom]) -> Iterator[Any]:
    """Other values of a field: for numbers those near what it is compared with, for the rest those that are named."""
    if field.type == "bool":
        yield from (each for each in (True, False) if each is not now)
    elif field.type == "text":
        named = [node.value for atom in reading for node in walk(atom.tree) if isinstance(node, Literal)]
        flat = [text for each in named for text in (each if isinstance(each, tuple | list) else [each])]
        beside = [at_path(trial.values, path) for atom in reading for path in atom.paths]
        texts = [each for each in (*flat, *beside, *field.choices) if isinstance(each, str)]
        yield from (each for each in dict.fromkeys(texts) if each != now and field.takes(each))
    elif field.type == "instant":
        yield trial.record["event"]["at"]
    elif _number(now) is not None:
        yield from _near(trial, now, reading)


def _near(trial: _Trial, now: Any, reading: Sequence[Atom]) -> Iterator[Any]:
    """Values on either side of each number that the questions name, and 0, in the unit of `now`."""
    step = _step(now)
    named = (node.value for atom in reading for node in walk(atom.tree) if isinstance(node, Literal))
    flat = (value for each in named for value in (each if isinstance(each, tuple | list) else [each]))
    numbers = [number for each in flat if (number := _in_unit(trial, each, now)) is not None]
    around = [number + sign * step for number in numbers for sign in (0, -1, 1)]
    for number in dict.fromkeys([*around, Fraction(0)]):
        if number >= 0 and number != _number(now):
            yield _like(now, number)


def _in_unit(trial: _Trial, value: Any, like: Any) -> Fraction | None:
    """A number that a question names, in the unit of another value; None where it has none."""
    if isinstance(value, Money) and isinstance(like, Money):
        changed = trial.rulebook.convert(value, like.currency, trial.record["event"]["at"])
        return None if changed is None else Fraction(changed.minor)
    return None if isinstance(value, Money) or isinstance(like, Money) else _number(value)


def _number(value: Any) -> Fraction | None:
    if isinstance(value, Money):
        return Fraction(value.minor)
    return Fraction(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def _step(value: Any) -> Fraction:
    return Fraction(1, 100) if isinstance(value, Decimal) else Fraction(1)


def _like(now: Any, number: Fraction) -> Any:
    """A number in the form of another value."""
    if isinstance(now, Money):
        return Money(round(number), now.currency)
    return Decimal(round(number * 100)) / 100 if isinstance(now, Decimal) else round(number)


# Searching


def _options(trial: _Trial, variables: Iterable[_Variable]) -> list[tuple[_Variable, list[Any]]]:
    """Of each variable the values that lead to findings of their own, the nearest of each."""
    plain = trial.judged({})
    options = []
    for variable in variables:
        by_findings: dict[Any, Any] = {}
        for value in sorted(variable.values, key=lambda each, of=variable: _changed(of, each).size):  # type: ignore[misc]
            if trial.over:
                break
            outcome = trial.judged({variable: value})
            seen = (outcome.verdict, outcome.score, outcome.signals)
            if seen != (plain.verdict, plain.score, plain.signals):
                by_findings.setdefault(seen, value)
        if by_findings:
            options.append((variable, list(by_findings.values())))
    return options


def _searched(
    trial: _Trial, options: Sequence[tuple[_Variable, list[Any]]], good: frozenset[str], before: str
) -> Found:
    """The best of the fewest changes that lead to a verdict of `good`."""
    for count in range(1, min(MOST, len(options)) + 1):
        best, all_tried = _best(trial, options, good, count)
        if best is not None:
            nearest = _nearest(trial, best, good)
            changes = tuple(_changed(variable, value) for variable, value in nearest.items())
            return Found(before, trial.judged(nearest).verdict, changes, trial.tried, all_tried)
        if not all_tried:
            return Found(before, None, (), trial.tried, False)
    return Found(before, None, (), trial.tried, True)


def _best(
    trial: _Trial, options: Sequence[tuple[_Variable, list[Any]]], good: frozenset[str], count: int
) -> tuple[dict[_Variable, Any] | None, bool]:
    """Of `count` changes the smallest that does, and whether all were tried."""
    best: dict[_Variable, Any] | None = None
    for chosen in combinations(options, count):
        for values in product(*(values for _, values in chosen)):
            if trial.over:
                return best, False
            setting = {variable: value for (variable, _), value in zip(chosen, values, strict=True)}
            smaller = best is None or _size(setting) < _size(best)
            if smaller and trial.judged(setting).verdict in good:
                best = setting
    return best, True


def _nearest(trial: _Trial, setting: dict[_Variable, Any], good: frozenset[str]) -> dict[_Variable, Any]:
    """Each number moved back towards what it was, as far as the verdict stays milder."""
    for variable, value in list(setting.items()):
        now, end = _number(variable.now), _number(value)
        if now is None or end is None:
            continue
        bad, fine = now, end
        for _ in range(_HALVINGS):
            middle = _number(_like(variable.now, (bad + fine) / 2))
            if middle is None or middle in (bad, fine) or trial.over:
                break
            tried = {**setting, variable: _like(variable.now, middle)}
            bad, fine = (bad, middle) if trial.judged(tried).verdict in good else (middle, fine)
        setting = {**setting, variable: _like(variable.now, fine)}
    return setting


def _changed(variable: _Variable, value: Any) -> Change:
    return Change(variable.name, variable.path, variable.now, value)


def _size(setting: Mapping[_Variable, Any]) -> Fraction:
    return sum((_changed(variable, value).size for variable, value in setting.items()), Fraction(0))
