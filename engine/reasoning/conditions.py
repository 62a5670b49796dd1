"""What can be said of the conditions of rules: which never hold, always hold, or say what another says already.

    for found in about_rules(rulebook, rulebook.rules): ...

"Never" and "implied" are proofs: no event and no history is an exception (`engine.reasoning.terms` says why). Pairs are
compared where they can matter to each other: one signal, a common kind of event, and no field or window that only the
implied condition asks for; there we take windows of one key to be loaded together, as they are but for a while after a
start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from engine.errors import Problem
from engine.expr import Env
from engine.expr.nodes import And, Node
from engine.reasoning.encode import Encoding
from engine.reasoning.remark import Remark, undecided
from engine.reasoning.solver import Questions
from engine.reasoning.terms import opposite
from engine.reasoning.windows import related
from engine.reasoning.witness import Imagined, Witness, ground_of, played, wishes
from engine.reasoning.written import listed, test_text
from engine.rulebook import Rulebook
from engine.rules import Rule, RuleTest
from engine.schema.nesting import nested as nest
from engine.trial import CLOCK
from engine.verdict import SEVERITIES, Finding

LONGEST_PART = 120
"""Characters of a part of a condition that are shown."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rule that can fire, what its condition asks about, and an event on which it fires, if one was looked for."""

    rule: Rule
    names: frozenset[str]
    sample: Imagined | None


def about_rules(rulebook: Rulebook, rules: Iterable[Rule]) -> Iterator[Remark]:
    """What is wrong with these rules, alone and beside all others of the rulebook; not of those that are off."""
    told = {rule.id for rule in rules}
    questions = Questions()
    sound: list[_Asked] = []
    for rule in rulebook.rules:
        if rule.mode == "off":
            continue
        sample, alone = _alone(rulebook, rule, questions) if rule.id in told else (None, [])
        yield from alone
        if not any(each.grave for each in alone):
            sound.append(_Asked(rule, _names(rule), sample))
    yield from _beside(rulebook, sound, told, questions)


# A rule alone


def _alone(rulebook: Rulebook, rule: Rule, questions: Questions) -> tuple[Imagined | None, list[Remark]]:
    """An event on which the rule fires, and what is wrong with it by itself."""
    encoding = Encoding(ground_of(rulebook, rule.kinds))
    value = encoding.value(rule.condition.tree)
    parts = _parts(rule.condition.tree)
    with questions.given(list(encoding.facts())):
        fires = questions.ask(value.true)
        if fires.undecided:
            return None, [undecided(rule.document, (*rule.loc, "when"), f"rule '{rule.id}' can fire")]
        if fires.impossible:
            core = [parts[index] for index in questions.fewest([encoding.value(part).true for part in parts])]
            return None, [Remark(_never(rule, core, encoding), grave=True)]
        if questions.ask(value.false).impossible:
            silent = questions.ask(opposite(value.true))
            return None, [_always(rulebook, rule, everywhere=silent.impossible)]
        return _sample(rulebook, rule, Witness(rulebook, encoding, rule.kinds[0], fires.model)), []


def _sample(rulebook: Rulebook, rule: Rule, witness: Witness) -> Imagined | None:
    """The event of a model, if the rule really fires on it."""
    values = witness.values()
    nested, problems = nest(values, frozenset())
    at = values.get("at", CLOCK)
    found = Imagined(nested, witness.features(), Env(at, at, {}, rulebook.convert))
    return found if not problems and found.answer(rule.condition) is True else None


def _parts(tree: Node) -> tuple[Node, ...]:
    return tree.items if isinstance(tree, And) else (tree,)


def _never(rule: Rule, core: Sequence[Node], encoding: Encoding) -> Problem:
    """Where and why a rule never fires."""
    texts = [f"'{_short(part.text)}'" for part in core]
    if not core:
        what = f"rule '{rule.id}' can never fire"
    elif len(core) == 1:
        what = f"rule '{rule.id}' can never fire: {texts[0]} is never true"
    else:
        what = f"rule '{rule.id}' can never fire: {listed(texts)} are never true together"
    return rule.document.problem((*rule.loc, "when"), what, _limits(encoding) if len(core) == 1 else "")


def _limits(encoding: Encoding) -> str:
    """What the schema says of the fields that a condition asks."""
    fields = [field for path in encoding.event.values if (field := encoding.event.field(path)) is not None]
    return "; ".join(f"{field.path}: {field.limit}" for field in fields[:3] if field.limit and field.path != "at")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_PART else text[:LONGEST_PART] + "…"


def _always(rulebook: Rulebook, rule: Rule, *, everywhere: bool) -> Remark:
    """A rule that no event can keep quiet."""
    told = "fires on every event" if everywhere else "is never quiet: it fires on every event that it can judge"
    test = RuleTest.model_construct(it="fires on any event", before=[], kind=None, event={}, expect="fires")
    witness = played(rulebook, [rule], test)
    hint = "a condition that is always true finds nothing; ask for less"
    shown = test_text(witness) if witness else ""
    problem = rule.document.problem((*rule.loc, "when"), f"rule '{rule.id}' {told}", _hint(hint, shown))
    return Remark(problem, grave=True, witness=shown)


def _hint(hint: str, witness: str) -> str:
    return "\n".join(each for each in (hint, f"see: {witness}" if witness else "") if each)


# Two rules


def _names(rule: Rule) -> frozenset[str]:
    """What a condition asks about: fields, and windows by what they count, whatever their length."""
    return rule.condition.paths | {f"{window.kinds} {window.by}" for window in rule.condition.windows}


def _beside(rulebook: Rulebook, sound: Sequence[_Asked], told: set[str], questions: Questions) -> Iterator[Remark]:
    by_signal: dict[str, list[_Asked]] = {}
    for each in sound:
        by_signal.setdefault(each.rule.finding.signal, []).append(each)
    for group in by_signal.values():
        done: set[str] = set()
        for one, other in permutations(group, 2):
            if one.rule.id in done or not told & {one.rule.id, other.rule.id} or not _may_imply(one, other):
                continue
            found = _compared(rulebook, one.rule, other.rule, questions)
            if found is not None:
                # That one other says as much is enough; of two that say the same the later one is told of.
                done |= {one.rule.id, other.rule.id} if found[0] == "equal" else {one.rule.id}
                yield from _remarks(rulebook, one.rule, other.rule, *found)


def _may_imply(one: _Asked, other: _Asked) -> bool:
    """Whether the first rule can imply the second: it is for no other kinds, asks about all that that one does, and no
    event is known on which it fires and the other does not."""
    if not (set(one.rule.kinds) <= set(other.rule.kinds) and other.names <= one.names):
        return False
    mine, theirs = one.rule.condition.windows, other.rule.condition.windows
    if one.sample is not None and set(theirs) <= set(mine):
        return one.sample.answer(other.rule.condition) is True
    return all(any(related(window, each) for window in mine) for each in theirs)


def _compared(rulebook: Rulebook, one: Rule, other: Rule, questions: Questions) -> tuple[str, RuleTest | None] | None:
    """Whether an event on which `one` fires and `other` does not is impossible ("implied"), and the reverse too
    ("equal"); with an event on which both fire."""
    encoding = Encoding(ground_of(rulebook, one.kinds))
    first, second = (encoding.value(rule.condition.tree) for rule in (one, other))
    with questions.given([*encoding.facts(), *encoding.windows.together()]):
        if not questions.ask(first.true, opposite(second.true)).impossible:
            return None
        equal = questions.ask(second.true, opposite(first.true)).impossible and set(one.kinds) == set(other.kinds)
        if not _matters(one, other, equal=equal):
            return None
        found = questions.nicest([first.true, second.true], wishes(encoding))
        if not found.possible:
            return None
        made = Witness(rulebook, encoding, one.kinds[0], found.model).test(
            "fires, as does the other", "fires", [one, other]
        )
    test = played(rulebook, [one, other], made) or _own(rulebook, one, other)
    return "equal" if equal else "implied", test


def _own(rulebook: Rulebook, one: Rule, other: Rule) -> RuleTest | None:
    """A test of one of the rules at which both fire."""
    for rule in (one, other):
        for test in rule.tests:
            kinds = {test.kind or each.kinds[0] for each in (one, other)}
            if test.expect == "fires" and len(kinds) == 1 and (found := played(rulebook, [one, other], test)):
                return found
    return None


def _matters(one: Rule, other: Rule, *, equal: bool) -> bool:
    """Whether it is worth telling of. A copy in the shadow that finds something else is there to be compared."""
    if equal:
        return (one.mode, one.rollout) == (other.mode, other.rollout) or not _differing(one.finding, other.finding)
    return _adds_nothing(one, other)


def _adds_nothing(one: Rule, other: Rule) -> bool:
    """Whether what `one` finds matters to nobody where `other` finds its part too."""
    mine, theirs = one.finding, other.finding
    points = mine.points == 0 or (bool(mine.group) and mine.group == theirs.group and mine.points <= theirs.points)
    return (
        points
        and SEVERITIES.index(mine.severity) <= SEVERITIES.index(theirs.severity)
        and mine.hard <= theirs.hard
        and set(mine.cites) <= set(theirs.cites)
        and one.if_unknown in ("quiet", other.if_unknown)
        and (other.mode == "live" or one.mode == other.mode)
        and other.rollout in (None, one.rollout)
    )


def _remarks(rulebook: Rulebook, one: Rule, other: Rule, how: str, test: RuleTest | None) -> Iterator[Remark]:
    shown = test_text(test) if test else ""
    if how == "equal":
        order = [rule.id for rule in rulebook.rules]
        first, later = sorted((one, other), key=lambda rule: order.index(rule.id))
        yield _same(first, later, shown)
        return
    what = f"rule '{one.id}' adds nothing: '{other.id}' fires whenever it does, and finds as much"
    hint = _hint(f"take it out, or give it a signal or points of its own; the other is in {other.document.file}", shown)
    yield Remark(one.document.problem((*one.loc, "when"), what, hint), grave=False, witness=shown)


def _same(first: Rule, later: Rule, shown: str) -> Remark:
    """Two rules with one condition: a repetition, or a contradiction where they do not find the same."""
    differing = _differing(first.finding, later.finding)
    if differing:
        what = f"rule '{later.id}' conflicts with '{first.id}': both fire on the same events, and {differing}"
        hint = f"keep the one that is meant; the other is in {first.document.file}"
    else:
        what = f"rule '{later.id}' repeats '{first.id}': both fire on the same events and find the same"
        hint = f"keep one of them; the other is in {first.document.file}"
    problem = later.document.problem((*later.loc, "when"), what, _hint(hint, shown))
    return Remark(problem, grave=bool(differing), witness=shown)


def _differing(one: Finding, other: Finding) -> str:
    """What two findings of one signal say differently."""
    told = [
        f"{name} is {before} in one and {after} in the other"
        for name, before, after in (
            ("severity", one.severity, other.severity),
            ("points", one.points, other.points),
            ("hard", str(one.hard).lower(), str(other.hard).lower()),
        )
        if before != after
    ]
    return listed(told) if told else ""
