"""Many conditions over one event at once: each distinct question is asked once, the rest is arithmetic on bit masks.

Every rule becomes literals (a question, perhaps negated) under `and` and `or` only; written out as alternatives of
conjunctions, its *terms*. A big integer holds one bit per term that is still alive. Questions over one value against
written values (`amount > 5`, `amount <= 20`, `amount is missing`) share a *slot*: the written values cut the range of
the value into regions, and each region carries the mask of the terms that survive there and of the questions that are
true there. So one event costs one look-up and one `and` per slot, however many rules ask about it. (This is the
predicate indexing of content-based publish/subscribe: Yan and Garcia-Molina 1994, Aguilera et al. 1999.)

Unknown: as negation stands only at the questions, a rule is true exactly when it holds with every unknown literal
taken as false, and it can still become true exactly when it holds with every unknown literal taken as true.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from engine.expr.check import atoms_in, lists_in
from engine.expr.nodes import And, Call, Env, Expression, Feature, Field, Literal, Node, Not, Or, Window, walk
from engine.expr.python import Evaluate, Writer

MAX_TERMS = 16
"""A rule with more alternatives than this is not written out; its formula is evaluated over the masks instead."""

MAX_ALTERNATIVES = 20_000
"""Once this many terms are written out, rules with `or` go by their formula: the masks must stay short."""
MANY = 500
"""From this many terms on, numpy reads the bits of a mask faster than a loop."""
GROUP = 2_048
"""True atoms are gathered in groups of about this many bits, so that most steps work on short numbers."""

Formula = tuple[Any, ...]
"""("atom", index, negated), ("and", formulas) or ("or", formulas)."""
LiteralKey = tuple[int, bool]
Intervals = tuple[tuple[int, int], ...]
"""Regions, as ascending disjoint half-open ranges of region numbers."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One distinct yes/no question of the rules: its canonical text and what it looks at."""

    text: str
    paths: frozenset[str]
    windows: tuple[Window, ...]
    lists: frozenset[str]
    tree: Node


class Match(NamedTuple):
    """What one event gives. `fired` and `unsure` are rule numbers, ascending; bit i of the masks is atom i.

    `unsure` names rules of `watch_unknown` only: those that did not fire but would with some values that are unknown.
    """

    fired: tuple[int, ...]
    unsure: tuple[int, ...]
    true: int
    unknown: int


def truth(atom: int, true: int, unknown: int) -> str:
    """What the masks of a `Match` say of an atom: "true", "false" or "unknown"."""
    if unknown >> atom & 1:
        return "unknown"
    return "true" if true >> atom & 1 else "false"


def compile_rules(
    conditions: Sequence[Expression], windows: Sequence[Window], *, watch_unknown: Collection[int] = ()
) -> Matcher:
    """A matcher for `conditions`. Window values will stand in the order of `windows`; watched rules report `unsure`."""
    return Matcher(conditions, windows, frozenset(watch_unknown))


class Matcher:
    """Evaluates many conditions over one event. Frozen once made; any number of threads may call it."""

    def __init__(self, conditions: Sequence[Expression], windows: Sequence[Window], watched: frozenset[int]) -> None:
        slots = _slots(conditions)
        self.atoms = tuple(_atom(node) for slot in slots for node in slot.atoms)
        numbers = {atom.text: number for number, atom in enumerate(self.atoms)}
        self._formulas = [_formula(condition.tree, numbers, False) for condition in conditions]
        self._watched = sorted(watched)
        self._evaluate = _compile(slots, self._formulas, windows, self._watched)

    def __call__(self, event: dict[str, Any], features: Sequence[Any], env: Env) -> Match:
        match: Match = self._evaluate(event, features, env)
        return match

    def replay(self, true: int, unknown: int) -> Match:
        """The match that recorded masks stand for, computed from the masks alone."""
        certain, possible = _bit_views(true, unknown, len(self.atoms))
        fired = tuple(self._replay(*certain))
        held = set(fired)
        unsure = tuple(rule for rule in self._replay_watched(*possible) if rule not in held)
        return Match(fired, unsure, true, unknown)

    def undecided(self, true: int, unknown: int) -> tuple[int, ...]:
        """The rules, watched or not, that recorded masks leave open: with what was unknown they could have fired."""
        certain, possible = _bit_views(true, unknown, len(self.atoms))
        held = set(self._replay(*certain))
        return tuple(rule for rule in self._replay(*possible) if rule not in held)

    def atoms_of(self, rule: int) -> tuple[tuple[int, bool], ...]:
        """(atom number, negated) for each question that a rule asks, in its order."""
        return tuple(dict.fromkeys(_literals(self._formulas[rule])))

    @cached_property
    def _replay(self) -> Callable[[bytes, bytes], list[int]]:
        return _formula_function(dict(enumerate(self._formulas)))

    @cached_property
    def _replay_watched(self) -> Callable[[bytes, bytes], list[int]]:
        return _formula_function({rule: self._formulas[rule] for rule in self._watched})


def _atom(node: Node) -> Atom:
    parts = list(walk(node))
    paths = frozenset(part.path for part in parts if isinstance(part, Field))
    windows = tuple(dict.fromkeys(part.window for part in parts if isinstance(part, Feature)))
    return Atom(node.text, paths, windows, lists_in(parts), node)


# ---------------------------------------------------------------------------------------------- formulas and terms


def _formula(node: Node, numbers: dict[str, int], negated: bool) -> Formula:
    """The condition with negation pushed to the leaves (De Morgan holds for unknown too)."""
    if isinstance(node, Not):
        return _formula(node.item, numbers, not negated)
    if isinstance(node, And | Or):
        word = "and" if isinstance(node, And) != negated else "or"
        return (word, tuple(_formula(item, numbers, negated) for item in node.items))
    return ("atom", numbers[node.text], negated)


def _literals(formula: Formula) -> Iterable[LiteralKey]:
    if formula[0] == "atom":
        yield formula[1], formula[2]
    else:
        for part in formula[1]:
            yield from _literals(part)


def _terms(formula: Formula) -> list[frozenset[LiteralKey]] | None:
    """The alternatives of a formula, none holding another; None when there are more than MAX_TERMS."""
    if formula[0] == "atom":
        return [frozenset([(formula[1], formula[2])])]
    parts = [_terms(part) for part in formula[1]]
    found: list[frozenset[LiteralKey]] = [] if formula[0] == "or" else [frozenset()]
    for part in parts:
        if part is None:
            return None
        found = _least([*found, *part] if formula[0] == "or" else [a | b for a in found for b in part])
        if len(found) > MAX_TERMS:
            return None
    return found


def _least(terms: Iterable[frozenset[LiteralKey]]) -> list[frozenset[LiteralKey]]:
    """`terms` without repeats and without those that hold another: `a or (a and b)` is a."""
    unique = list(dict.fromkeys(terms))
    return [term for term in unique if not any(other < term for other in unique)]


def _formula_function(formulas: dict[int, Formula]) -> Callable[[bytes, bytes], list[int]]:
    """A function from two bit strings (atoms that hold, atoms whose opposite holds) to the rules that hold."""
    chunks = [_formula_chunk(part) for part in _chunked(list(formulas.items()), 500)]

    def holding(positive: bytes, negative: bytes) -> list[int]:
        found: list[int] = []
        for chunk in chunks:
            chunk(positive, negative, found.append)
        return found

    return holding


def _formula_chunk(formulas: list[tuple[int, Formula]]) -> Callable[[bytes, bytes, Callable[[int], None]], None]:
    lines = [f"    if {_formula_code(formula)}: add({rule})" for rule, formula in formulas]
    space: dict[str, Any] = {"__builtins__": {}}
    # Holds rule and bit numbers only, nothing that a user wrote.
    exec(compile("def check(t, n, add):\n" + "\n".join(lines or ["    pass"]), "<rules>", "exec"), space)  # noqa: S102
    check: Callable[[bytes, bytes, Callable[[int], None]], None] = space["check"]
    return check


def _formula_code(formula: Formula) -> str:
    if formula[0] == "atom":
        return f"{'n' if formula[2] else 't'}[{formula[1] >> 3}] & {1 << (formula[1] & 7)}"
    joined = f" {formula[0]} ".join(_formula_code(part) for part in formula[1])
    return f"({joined})"


def _bit_views(true: int, unknown: int, count: int) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """(atoms that hold, atoms whose opposite holds): with unknown taken as false, and with unknown taken as true."""
    width = (count + 7) // 8
    everything = (1 << count) - 1

    def packed(mask: int) -> bytes:
        return mask.to_bytes(width, "little")

    certain = packed(true), packed(everything & ~(true | unknown))
    return certain, (packed(true | unknown), packed(everything & ~true))


def _chunked(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# ---------------------------------------------------------------------------------------------- slots and regions


@dataclass(slots=True)
class _Slot:
    """The questions about one value, and where the written values stand in it.

    `first` is the number of the slot's first atom.
    """

    value: Node
    kind: str
    atoms: list[Node] = field(default_factory=list)
    first: int = 0


_ORDERED = {"number", "instant", "duration"}
_COMPARED = {"==", "<", "<=", ">", ">="}


def _slots(conditions: Sequence[Expression]) -> list[_Slot]:
    """The distinct questions of all conditions, gathered by the value they ask about."""
    slots: dict[str, _Slot] = {}
    seen: set[str] = set()
    for condition in conditions:
        for atom in atoms_in(condition.tree):
            if atom.text not in seen:
                seen.add(atom.text)
                value = _asked_about(atom)
                slot = slots.setdefault(value.text, _Slot(value, _kind(value)))
                slot.atoms.append(atom)
    first = 0
    for slot in slots.values():
        slot.first = first
        first += len(slot.atoms)
    return list(slots.values())


def _asked_about(atom: Node) -> Node:
    """The value whose regions decide the atom: a compared value, or the yes/no value that the atom itself is."""
    if isinstance(atom, Call):
        if atom.row.name == "is missing":
            return atom.args[0]
        if atom.row.name in _COMPARED and isinstance(atom.args[1], Literal) and _kind(atom.args[0]) != "yes":
            return atom.args[0]
        if atom.row.name == "in" and isinstance(atom.args[1], Literal) and atom.row.form == "infix":
            return atom.args[0]
    return atom


def _kind(value: Node) -> str:
    name = value.type.name
    kinds = {"money": "money", "text": "equal", "bool": "yes"}
    return "ordered" if name in _ORDERED else kinds.get(name, "presence")


@dataclass(slots=True)
class _Case:
    """One way to look a value up: `points` cut it into `count` regions; which of them each atom is true in.

    `unknown` atoms are unknown in every region of the case (a written amount of another currency).
    """

    points: list[Any]
    count: int
    true: dict[int, Intervals]
    unknown: set[int]


def _cases(slot: _Slot) -> dict[str, _Case]:
    """The cases of a slot by name: "" for plain values, a currency, or "other" for every other currency."""
    if slot.kind == "money":
        currencies = sorted({money.currency for atom in slot.atoms for money in _written(atom)})
        return {name: _ordered_case(slot, name) for name in [*currencies, "other"]}
    if slot.kind == "equal":
        return {"": _equal_case(slot)}
    if slot.kind == "ordered":
        return {"": _ordered_case(slot, "")}
    count = 2 if slot.kind == "yes" else 1
    truths: dict[int, Intervals] = {
        slot.first + position: () if _is_missing(atom, slot) else ((1, 2),) for position, atom in enumerate(slot.atoms)
    }
    return {"": _Case([], count, truths, set())}


def _is_missing(atom: Node, slot: _Slot) -> bool:
    return isinstance(atom, Call) and atom.row.name == "is missing" and atom.args[0].text == slot.value.text


def _written(atom: Node) -> tuple[Any, ...]:
    """The written values that an atom compares with."""
    assert isinstance(atom, Call)
    if len(atom.args) == 1:
        return ()
    given = atom.args[1]
    assert isinstance(given, Literal)
    return given.value if given.type.element else (given.value,)


def _ordered_case(slot: _Slot, currency: str) -> _Case:
    """Regions of an ordered value: number 2i+1 is exactly at point i, 2i is below it, the last is above all."""
    own = [(slot.first + position, atom, _values(atom, currency)) for position, atom in enumerate(slot.atoms)]
    points = sorted({value for _, _, values in own for value in values or ()})
    place = {value: 2 * position + 1 for position, value in enumerate(points)}
    count = 2 * len(points) + 1
    true, unknown = {}, set()
    for number, atom, values in own:
        if values is None:
            unknown.add(number)
        else:
            true[number] = _regions(atom, [place[value] for value in values], count)
    return _Case(points, count, true, unknown)


def _values(atom: Node, currency: str) -> list[Any] | None:
    """The plain values an atom compares with in a case; None when they are amounts of another currency."""
    written = _written(atom)
    if not currency:
        return list(written)
    return [money.minor for money in written] if all(money.currency == currency for money in written) else None


def _regions(atom: Node, places: list[int], count: int) -> Intervals:
    assert isinstance(atom, Call)
    match atom.row.name:
        case "<":
            return ((0, places[0]),)
        case "<=":
            return ((0, places[0] + 1),)
        case ">":
            return ((places[0] + 1, count),)
        case ">=":
            return ((places[0], count),)
        case "is missing":
            return ()
    return tuple((place, place + 1) for place in sorted(places))


def _equal_case(slot: _Slot) -> _Case:
    """Regions of text: one for each written text, and region 0 for any other."""
    texts = list(dict.fromkeys(value for atom in slot.atoms for value in _written(atom)))
    place = {value: position + 1 for position, value in enumerate(texts)}
    true = {
        slot.first + position: tuple((at, at + 1) for at in sorted(place[value] for value in _written(atom)))
        for position, atom in enumerate(slot.atoms)
    }
    return _Case(texts, len(texts) + 1, true, set())


def _outside(intervals: Intervals, count: int) -> Intervals:
    found, at = [], 0
    for start, end in intervals:
        if start > at:
            found.append((at, start))
        at = end
    return (*found, (at, count)) if at < count else tuple(found)


def _shared(first: Intervals, second: Intervals) -> Intervals:
    return tuple((max(a, c), min(b, d)) for a, b in first for c, d in second if max(a, c) < min(b, d))


def _spread(sets: Iterable[tuple[int, Intervals]], count: int) -> list[int]:
    """For each region the mask of the bits whose intervals hold it."""
    changes: dict[int, list[int]] = {}
    for bit, intervals in sets:
        for start, end in intervals:
            changes.setdefault(start, []).append(bit)
            if end < count:
                changes.setdefault(end, []).append(bit)
    mask, masks = 0, []
    for region in range(count):
        if region in changes:
            mask ^= _mask(changes[region])
        masks.append(mask)
    return masks


def _mask(bits: Iterable[int]) -> int:
    """The number with these bits set; a bit named twice is clear (it ends where it begins again)."""
    mask = 0
    for bit in bits:
        mask ^= 1 << bit
    return mask


# ---------------------------------------------------------------------------------------------- the one function


@dataclass(slots=True)
class _Terms:
    """The terms of some rules as bits: the rule of each, and per slot the literals of each that touches the slot."""

    rules: list[int] = field(default_factory=list)
    touching: dict[int, dict[int, list[LiteralKey]]] = field(default_factory=dict)

    @property
    def everything(self) -> int:
        return (1 << len(self.rules)) - 1

    def add(self, rule: int, term: frozenset[LiteralKey], slot_of: Sequence[int]) -> None:
        bit = len(self.rules)
        self.rules.append(rule)
        for key in term:
            self.touching.setdefault(slot_of[key[0]], {}).setdefault(bit, []).append(key)


def _compile(slots: list[_Slot], formulas: list[Formula], windows: Sequence[Window], watched: list[int]) -> Evaluate:
    slot_of = [number for number, slot in enumerate(slots) for _ in slot.atoms]
    terms, watched_terms, complex_rules = _Terms(), _Terms(), []
    watching = frozenset(watched)
    for rule, formula in enumerate(formulas):
        alternatives = _terms(formula)
        if alternatives is None or (len(alternatives) > 1 and len(terms.rules) > MAX_ALTERNATIVES):
            complex_rules.append(rule)
            continue
        for term in alternatives:
            terms.add(rule, term, slot_of)
            if rule in watching:
                watched_terms.add(rule, term, slot_of)
    return _Function(slots, windows, terms, watched_terms).finish(
        {rule: formulas[rule] for rule in complex_rules}, watching
    )


class _Function:
    """Writes the matcher's function: a look-up per slot, then the rules behind the surviving terms."""

    def __init__(self, slots: list[_Slot], windows: Sequence[Window], terms: _Terms, watched: _Terms) -> None:
        self.slots = slots
        self.writer = Writer(windows)
        self.masks = [("a", terms, False)] + ([("w", watched, True)] if watched.rules else [])
        self.atoms = sum(len(slot.atoms) for slot in slots)
        self.groups: list[int] = []  # the first atom of each group
        self.group_of: list[int] = []
        for slot in slots:
            if not self.groups or slot.first + len(slot.atoms) - self.groups[-1] > GROUP:
                self.groups.append(slot.first)
            self.group_of.append(len(self.groups) - 1)

    def finish(self, complex_rules: dict[int, Formula], watching: frozenset[int]) -> Evaluate:
        lines = self.writer.lines
        for name, terms, _ in self.masks:
            lines.append(f"{name} = {self.writer.bind(terms.everything)}")
        lines += ["u = 0", *(f"t{group} = 0" for group in range(len(self.groups)))]
        for number, slot in enumerate(self.slots):
            self._slot(number, slot)
        lines.append(f"t = {_gathered([(f't{group}', first) for group, first in enumerate(self.groups)]) or 0}")
        lines.append(f"fired = {self._rules('a', self.masks[0][1])}")
        lines.append(f"unsure = {self._rules('w', self.masks[1][1]) if len(self.masks) == 2 else '()'}")
        if complex_rules:
            self._complex(complex_rules, watching)
        if watching:
            self.writer.space["less"] = _less
            lines.append("unsure = less(unsure, fired) if unsure else ()")
        return self.writer.function(f"return {self.writer.bind(_match)}((fired, unsure, t, u))")

    def _rules(self, mask: str, terms: _Terms) -> str:
        bits = f"{self.writer.bind(_bit_reader(len(terms.rules)))}({mask})"
        if terms.rules == list(range(len(terms.rules))):
            return f"{bits} if {mask} else ()"
        return f"{self.writer.bind(_rules_behind(terms.rules))}({bits}) if {mask} else ()"

    def _complex(self, rules: dict[int, Formula], watching: frozenset[int]) -> None:
        certain = _formula_function(rules)
        doubtful = _formula_function({rule: formula for rule, formula in rules.items() if rule in watching})

        def merge(fired: tuple[int, ...], unsure: tuple[int, ...], true: int, unknown: int) -> Any:
            sure, possible = _bit_views(true, unknown, self.atoms)
            return tuple(sorted((*fired, *certain(*sure)))), tuple(sorted((*unsure, *doubtful(*possible))))

        self.writer.lines.append(f"fired, unsure = {self.writer.bind(merge)}(fired, unsure, t, u)")

    def _slot(self, number: int, slot: _Slot) -> None:
        """Look the slot's value up: its terms leave the masks, its true atoms join their group."""
        value = self.writer.value(slot.value)
        lines = self.writer.lines
        lines.append(f"if {value} is None:")
        lines += [f"    {line}" for line in self._missing(number, slot)]
        cases = _cases(slot)
        if slot.kind != "money":
            lines.append("else:")
            lines += [f"    {line}" for line in self._case(number, slot, cases[""], value)]
            return
        for name, case in cases.items():
            currency = f"elif {value}[1] == {self.writer.bind(name)}:" if name != "other" else "else:"
            lines.append(currency)
            lines += [f"    {line}" for line in self._case(number, slot, case, f"{value}[0]")]

    def _missing(self, number: int, slot: _Slot) -> list[str]:
        asked = [slot.first + at for at, atom in enumerate(slot.atoms) if _is_missing(atom, slot)]
        unknown = {slot.first + at for at in range(len(slot.atoms))} - set(asked)
        case = _Case([], 1, dict.fromkeys(asked, ((0, 1),)), unknown)
        return self._case(number, slot, case, "0")

    def _case(self, number: int, slot: _Slot, case: _Case, value: str) -> list[str]:
        lines, step = self._index(slot, case, value)
        for name, terms, hopeful in self.masks:
            masks = _survivors(terms, number, case, hopeful)[::step]
            if any(mask != terms.everything for mask in masks):
                lines.append(f"{name} &= {self._chosen(masks)}")
        if case.unknown:
            lines.append(f"u |= {self.writer.bind(_mask(case.unknown))}")
        group = self.group_of[number]
        first = self.groups[group]
        truths = _spread(((atom - first, found) for atom, found in case.true.items()), case.count)[::step]
        if any(truths):
            lines.append(f"t{group} |= {self._chosen(truths)}")
        return lines or ["pass"]

    def _chosen(self, masks: list[int]) -> str:
        return self.writer.bind(masks) + "[i]" if len(masks) > 1 else self.writer.bind(masks[0])

    def _index(self, slot: _Slot, case: _Case, value: str) -> tuple[list[str], int]:
        """Lines that set `i` to the region number of a value, and which regions to keep (every one, every second)."""
        if case.count == 1:
            return [], 1
        if slot.kind == "yes":
            return [f"i = {value}"], 1
        if slot.kind == "equal":
            places = {text: position + 1 for position, text in enumerate(case.points)}
            return [f"i = {self.writer.bind(places.get)}({value}, 0)"], 1
        points = self.writer.bind(case.points)
        edges = {edge for found in case.true.values() for pair in found for edge in pair if 0 < edge < case.count}
        # Where all questions cut on the same side of their points, a point falls with one neighbour: one search does.
        if not any(edge & 1 for edge in edges):
            return [f"i = low({points}, {value})"], 2
        if all(edge & 1 for edge in edges):
            return [f"i = high({points}, {value})"], 2
        # Otherwise a point is a region of its own: search, then look whether it is met (None at the end meets nothing).
        ends = self.writer.bind([*case.points, None])
        return [f"i = low({points}, {value})", f"i += i + ({ends}[i] == {value})"], 1


def _survivors(terms: _Terms, slot: int, case: _Case, hopeful: bool) -> list[int]:
    """For each region the mask of terms that no literal of this slot rules out.

    A literal rules its term out where it is not true; when `hopeful`, only where it is false.
    """
    touched = terms.touching.get(slot, {})
    anywhere: Intervals = ((0, case.count),)
    sets = []
    for bit, literals in touched.items():
        alive = anywhere
        for atom, negated in literals:
            if atom in case.unknown:
                holds: Intervals = anywhere if hopeful else ()
            else:
                holds = _outside(case.true[atom], case.count) if negated else case.true[atom]
            alive = _shared(alive, holds)
        sets.append((bit, alive))
    untouched = terms.everything ^ _mask(touched)
    seen: dict[int, int] = {}  # equal masks are kept once
    return [seen.setdefault(mask, mask) for mask in (each | untouched for each in _spread(sets, case.count))]


def _gathered(parts: list[tuple[str, int]]) -> str:
    """Python that joins bit strings, each at its offset, as a balanced tree: short ones are joined first."""
    if not parts:
        return ""
    if len(parts) == 1:
        return parts[0][0]
    half = len(parts) // 2
    left, right = parts[:half], parts[half:]
    return f"({_gathered(left)} | {_gathered(right)} << {right[0][1] - left[0][1]})"


_match = Match._make
_BITS = [tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256)]


def _bit_reader(count: int) -> Callable[[int], tuple[int, ...]]:
    """A function from a mask of `count` bits to the numbers of the bits that are set, ascending."""
    return few_bits if count < MANY else _many_bits(count)


def few_bits(mask: int) -> tuple[int, ...]:
    """The numbers of the bits that are set, ascending."""
    packed = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    return tuple([at * 8 + bit for at, byte in enumerate(packed) if byte for bit in _BITS[byte]])


def _many_bits(count: int) -> Callable[[int], tuple[int, ...]]:
    """The same as few_bits for long masks, in a third of its time; numpy is imported only where it is worth it."""
    import numpy as np

    width = (count + 7) // 8

    def many_bits(mask: int) -> tuple[int, ...]:
        packed = np.frombuffer(mask.to_bytes(width, "little"), np.uint8)
        bits = np.unpackbits(packed, bitorder="little").view(np.bool_)
        return tuple(np.flatnonzero(bits).tolist())

    return many_bits


def _rules_behind(rules: list[int]) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    return lambda bits: tuple(dict.fromkeys([rules[bit] for bit in bits]))


def _less(possible: tuple[int, ...], fired: tuple[int, ...]) -> tuple[int, ...]:
    held = set(fired)
    return tuple(rule for rule in possible if rule not in held)
