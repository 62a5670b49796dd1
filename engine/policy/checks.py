"""What must fit together across a policy file, asked once at load. Nothing here is found out by a customer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.errors import did_you_mean
from engine.packs.durations import MICROSECONDS
from engine.policy.chaining import MAX_TERMS, Clause, any_rank, knots
from engine.policy.pack import PolicyPack, PolicyRule
from engine.policy.terms import MERCHANT
from engine.verdict import SEVERITIES

RESCORE = "rescore"
"""What `challenge.passed` may say instead of a verdict: judge again, with the challenge answered."""

LONGEST_MODE = 7 * 86_400 * MICROSECONDS
"""µs for which a mode is switched on at most: what has to last is a change of the policy."""

OFF = "off"
"""What ends modes, so none can have this name."""

Loc = tuple[str | int, ...]


class Fault(NamedTuple):
    """Something wrong in a policy: the path of the value in the file, what is wrong, and how to mend it."""

    loc: Loc
    what: str
    hint: str = ""


def problems(
    pack: PolicyPack, known_signals: Collection[str] | None = None, known_causes: Collection[str] | None = None
) -> list[Fault]:
    """Every fault of `pack`, in the order of the checks.

    `known_signals` are those that rules, models and Arbiter itself can find (what the policy derives is added);
    `known_causes` are those that `degraded` may name. None leaves the names unchecked.
    """
    faults = [*_causes(pack, known_causes), *_tiers(pack), *_effects(pack), *_degraded(pack), *_breaker(pack)]
    faults += [*_modes(pack), *_ends(pack)]
    verdicts = [*_verdict_names(pack), *_sections(pack)]
    faults = [*_duplicates(pack), *_drives(pack), *verdicts, *_terms(pack, known_signals), *faults, *_knots(pack)]
    # These compare verdicts, which makes sense only when all of them are there.
    return faults if verdicts else [*faults, *_contradictions(pack), *_challenge(pack), *_review(pack), *_appeal(pack)]


def _ends(pack: PolicyPack) -> Iterator[Fault]:
    """A measure that ends when somebody is cleared by one clause and not by another."""
    first: dict[str, str | None] = {}
    for at, action in enumerate(pack.actions):
        if first.setdefault(action.do, action.ends) != action.ends:
            what = f"another clause says otherwise of when '{action.do}' ends"
            yield Fault(("actions", at, "do"), what, "write 'ends: cleared' in all of its clauses, or in none")


def _drives(pack: PolicyPack) -> Iterator[Fault]:
    """What does not fit together in the terms of tiers."""
    seen: set[tuple[str, str]] = set()
    limits: set[str] = set()
    done = {action.do for action in pack.actions}
    for index, clause in enumerate(pack.terms):
        for at, tier in enumerate(clause.tier):
            loc: Loc = ("terms", index, "tier", at)
            if (clause.profile, tier) in seen:
                yield Fault(loc, f"there are terms for the tier '{tier}' already", "say all of them in one place")
            seen.add((clause.profile, tier))
            if clause.profile == MERCHANT and tier not in pack.tiers:
                hint = did_you_mean(tier, pack.tiers) or "one of " + ", ".join(pack.tiers)
                yield Fault(loc, f"there is no tier '{tier}'", hint)
        for at, limit in enumerate(clause.limits):
            where: Loc = ("terms", index, "limits", at)
            if limit.id in limits:
                yield Fault((*where, "id"), f"there is another limit '{limit.id}'", "choose another name")
            limits.add(limit.id)
            for place, kind in enumerate(limit.for_):
                if kind not in pack.for_:
                    hint = "it judges " + ", ".join(pack.for_)
                    yield Fault((*where, "for", place), f"this policy does not judge events of the kind '{kind}'", hint)
            if limit.do in done:
                hint = "choose another name: what invariants say of an action is about what signals lead to"
                yield Fault((*where, "do"), f"'{limit.do}' is an action of this policy", hint)


def name_problems(pack: PolicyPack, known_signals: Collection[str]) -> list[Fault]:
    """Every fault that is one of a single name: what can be said of a pack parts of which were left out."""
    return [*_duplicates(pack), *_verdict_names(pack), *_terms(pack, known_signals)]


def apart(pack: PolicyPack, kinds: Sequence[str], found_for: Mapping[str, Collection[str]]) -> list[Fault]:
    """Conditions whose signals never come together in one event of the `kinds` that the policy judges.

    `found_for` says for which kinds of event something finds a signal. Names that nobody knows are not told of here,
    nor is a clause that only waits for what another such clause would derive.
    """
    if not kinds:
        return []
    reach = _reach(pack, kinds, found_for)
    faults: list[Fault] = []
    for loc, when, _ in _term_lists(pack):
        by_term = [(at, term, [kind for kind in kinds if term in reach[kind]]) for at, term in _named(when)]
        alone = [(at, term) for at, term, found in by_term if not found]
        for at, term in alone:
            what = f"nothing finds the signal '{term}' for {' or '.join(kinds)}"
            faults.append(Fault((*loc, "when", at), what, f"it is found for {', '.join(sorted(found_for[term]))} only"))
        if not alone and not any(all(kind in found for _, _, found in by_term) for kind in kinds):
            where = "; ".join(
                f"'{term}' for {', '.join(found)}" for _, term, found in by_term if len(found) < len(kinds)
            )
            hint = "one event is of one kind: let rules find all of them for the same one"
            faults.append(Fault((*loc, "when"), f"these signals never come together; found are {where}", hint))
    return faults


def _named(when: Sequence[str]) -> list[tuple[int, str]]:
    return [(at, term) for at, term in enumerate(when) if any_rank(term) is None]


def _reach(pack: PolicyPack, kinds: Sequence[str], found_for: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Per kind, the signals that may hold for one of its events; `unless` is passed over."""
    deriving = [
        (frozenset(term for _, term in _named(rule.when)), rule.derive.signal) for rule in pack.rules if rule.derive
    ]
    derived = {signal for _, signal in deriving}
    asked = {term for _, when, _ in _term_lists(pack) for _, term in _named(when)}
    unknown = asked - derived - found_for.keys()
    found = {kind: unknown | {signal for signal, where in found_for.items() if kind in where} for kind in kinds}
    reach = {kind: _closure(held, deriving) for kind, held in found.items()}
    # The clause that would derive it is told of; what waits for it is not wrong by itself.
    never = derived - set().union(*reach.values())
    return {kind: _closure(held | never, deriving) for kind, held in reach.items()}


def _closure(held: set[str], deriving: Sequence[tuple[frozenset[str], str]]) -> set[str]:
    """`held` and what follows from it, as far as it goes."""
    while more := {signal for when, signal in deriving if when <= held} - held:
        held = held | more
    return held


def clauses(pack: PolicyPack) -> tuple[Clause, ...]:
    """The rules of the pack as clauses of a chain, index for index."""
    return tuple(_clause(rule) for rule in pack.rules)


def _clause(rule: PolicyRule) -> Clause:
    signal, severity = (rule.derive.signal, rule.derive.severity) if rule.derive else ("", "info")
    return Clause(rule.id, tuple(rule.when), tuple(rule.unless), signal, severity)


def _duplicates(pack: PolicyPack) -> Iterator[Fault]:
    for part, names in (("verdicts", pack.verdicts), ("for", pack.for_)):
        yield from (Fault((part, at), f"'{names[at]}' stands there twice") for at in _repeats(names))
    for part, ids in (("rules", [r.id for r in pack.rules]), ("mandatory", [m.id for m in pack.mandatory])):
        for at in _repeats(ids):
            yield Fault((part, at, "id"), f"the id '{ids[at]}' is taken", "ids are unique within a policy")
    if pack.challenge:
        for at in _repeats(pack.challenge.by):
            yield Fault(("challenge", "by", at), f"'{pack.challenge.by[at]}' stands there twice")


def _repeats(names: Sequence[str | None]) -> list[int]:
    """Where a name stands for the second or a later time."""
    return [at for at, name in enumerate(names) if name is not None and name in names[:at]]


def _verdict_names(pack: PolicyPack) -> Iterator[Fault]:
    hint = f"the verdicts are {', '.join(pack.verdicts)}"
    for loc, name in _verdicts_used(pack):
        if name not in pack.verdicts:
            yield Fault(loc, f"no verdict '{name}' in this policy", did_you_mean(name, pack.verdicts) or hint)
    if RESCORE in pack.verdicts:
        at = pack.verdicts.index(RESCORE)
        yield Fault(("verdicts", at), "'rescore' is not a verdict", "it is what challenge.passed may say")


def _verdicts_used(pack: PolicyPack) -> Iterator[tuple[Loc, str]]:
    for tier, thresholds in pack.tiers.items():
        yield from ((("tiers", tier, verdict), verdict) for verdict in thresholds)
    for at, clause in enumerate(pack.mandatory):
        yield ("mandatory", at, "verdict"), clause.verdict
    named: list[tuple[Loc, str | None]] = []
    for at, rule in enumerate(pack.rules):
        named += [(("rules", at, "at_least"), rule.at_least), (("rules", at, "at_most"), rule.at_most)]
    for cause, step in pack.degraded.items():
        named += [(("degraded", cause, "at_least"), step.at_least), (("degraded", cause, "then"), step.then)]
    named += [(("modes", name, "at_least"), mode.at_least) for name, mode in pack.modes.items()]
    for part, section in (("challenge", pack.challenge), ("review", pack.review), ("breaker", pack.breaker)):
        for key in ("passed", "failed", "abandoned", "if_late", "approved", "rejected", "overflow", "then"):
            named.append(((part, key), getattr(section, key, None)))
    named.append((("appeal", "lifted"), pack.appeal.lifted if pack.appeal else None))
    yield from ((loc, name) for loc, name in named if name and (loc, name) != (("challenge", "passed"), RESCORE))


def _term_lists(pack: PolicyPack) -> Iterator[tuple[Loc, list[str], list[str]]]:
    """Every condition over signals: where it stands, `when`, `unless`."""
    yield from ((("rules", at), rule.when, rule.unless) for at, rule in enumerate(pack.rules))
    yield from ((("mandatory", at), clause.when, []) for at, clause in enumerate(pack.mandatory))
    yield from ((("actions", at), action.when, action.unless) for at, action in enumerate(pack.actions))


def _terms(pack: PolicyPack, known_signals: Collection[str] | None) -> Iterator[Fault]:
    known = None if known_signals is None else {*known_signals, *(r.derive.signal for r in pack.rules if r.derive)}
    for loc, when, unless in _term_lists(pack):
        for key, terms in (("when", when), ("unless", unless)):
            for at, term in enumerate(terms):
                yield from _term((*loc, key, at), term, known)
            yield from (Fault((*loc, key, at), f"'{terms[at]}' stands there twice") for at in _repeats(terms))
        if len(when) + len(unless) > MAX_TERMS:
            hint = "derive a signal from some of them and ask for that"
            yield Fault((*loc, "when"), f"more than {MAX_TERMS} signals in one condition", hint)
        yield from _never(loc, when, unless)


def _term(loc: Loc, term: str, known: Collection[str] | None) -> Iterator[Fault]:
    word, _, rest = term.partition(" ")
    if any_rank(term) is not None:
        return
    if word == "any":
        yield Fault(loc, f"no severity '{rest}'", did_you_mean(rest, SEVERITIES) or f"one of {', '.join(SEVERITIES)}")
    elif word == "not":
        yield Fault(loc, f"'{term}' is not a signal", f"write '{rest}' under 'unless'")
    elif rest:
        hint = "write a list of signals, all of which must hold; for 'or' write two rules"
        yield Fault(loc, f"'{term}' is not a signal", hint)
    elif known is not None and term not in known:
        yield Fault(loc, f"no rule finds the signal '{term}'", did_you_mean(term, known))


def _never(loc: Loc, when: Sequence[str], unless: Sequence[str]) -> Iterator[Fault]:
    """Conditions that exclude themselves. Whatever holds is at least info; what is critical is high, too."""
    asked = max(((any_rank(term) or 0) for term in when), default=0)
    for at, term in enumerate(unless):
        rank = any_rank(term)
        if term in when or (rank is not None and rank <= asked):
            yield Fault((*loc, "unless", at), f"this can never hold: 'when' asks for what '{term}' excludes")


def _causes(pack: PolicyPack, known: Collection[str] | None) -> Iterator[Fault]:
    for cause in pack.degraded if known is not None else ():
        if known is not None and cause not in known:
            hint = did_you_mean(cause, known) or f"one of {', '.join(sorted(known))}"
            yield Fault(("degraded", cause), f"no cause '{cause}'", hint)


def _tiers(pack: PolicyPack) -> Iterator[Fault]:
    if pack.default_tier not in pack.tiers:
        hint = did_you_mean(pack.default_tier, pack.tiers) or f"the tiers are {', '.join(pack.tiers)}"
        yield Fault(("default_tier",), f"no tier '{pack.default_tier}'", hint)
    for tier, thresholds in pack.tiers.items():
        yield from _thresholds(("tiers", tier), pack, thresholds)


def _thresholds(loc: Loc, pack: PolicyPack, thresholds: dict[str, int]) -> Iterator[Fault]:
    mildest, *others = pack.verdicts
    if mildest in thresholds:
        yield Fault((*loc, mildest), f"'{mildest}' needs no score: it is the verdict without findings")
    lower, below = mildest, 0
    for verdict in others:
        score = thresholds.get(verdict)
        if score is None:
            continue
        if score > pack.score.cap:
            yield Fault((*loc, verdict), f"no score reaches {score}", f"the cap is {pack.score.cap}")
        elif score <= below:
            what = f"'{verdict}' at {score} must lie above " + (f"'{lower}' at {below}" if below else "0")
            yield Fault((*loc, verdict), what, f"verdicts from mild to severe: {', '.join(pack.verdicts)}")
        lower, below = verdict, max(score, below)


def _effects(pack: PolicyPack) -> Iterator[Fault]:
    for at, rule in enumerate(pack.rules):
        if not (rule.derive or rule.at_least or rule.at_most):
            yield Fault(("rules", at), f"the rule '{rule.id}' does nothing", "add derive, at_least or at_most")


def _degraded(pack: PolicyPack) -> Iterator[Fault]:
    for cause, step in pack.degraded.items():
        if (step.if_ is None) != (step.then is None):
            yield Fault(("degraded", cause), "'if' and 'then' go together")


def _sections(pack: PolicyPack) -> Iterator[Fault]:
    """A verdict that asks for something must say what comes of it: nothing dead-ends."""
    for at, verdict in enumerate(pack.verdicts):
        if verdict in ("challenge", "review"):
            if getattr(pack, verdict) is None:
                yield Fault(("verdicts", at), f"'{verdict}' needs a '{verdict}:' part that says how it ends")
            if at == 0:
                yield Fault(
                    ("verdicts", at), f"'{verdict}' cannot be the mildest verdict", "put it behind what it may lead to"
                )
    for section in ("challenge", "review"):
        if getattr(pack, section) is not None and section not in pack.verdicts:
            yield Fault((section,), f"no verdict '{section}' in this policy", "add it to 'verdicts' or drop this part")
    if pack.review and (pack.review.capacity is None) != (pack.review.overflow is None):
        yield Fault(("review",), "'capacity' and 'overflow' go together")


def _breaker(pack: PolicyPack) -> Iterator[Fault]:
    if pack.breaker and pack.breaker.then == pack.verdicts[-1]:
        what = f"'{pack.breaker.then}' is the severest verdict: the breaker would change nothing"
        yield Fault(("breaker", "then"), what)


def _modes(pack: PolicyPack) -> Iterator[Fault]:
    for name, mode in pack.modes.items():
        loc = ("modes", name)
        if name == OFF:
            yield Fault(loc, f"'{OFF}' is what ends a mode", "choose another name")
        if mode.at_least == pack.verdicts[0]:
            what = f"'{mode.at_least}' is the mildest verdict: the mode would change nothing"
            yield Fault((*loc, "at_least"), what, f"write {{}} for a mode that leaves '{pack.policy}' as it is")
        if mode.idle and mode.if_ is not None:
            yield Fault((*loc, "if"), f"the mode '{name}' does nothing here", "add at_least or do")
        for key, value in (("for", mode.for_), ("basis", mode.basis)):
            if value is not None and mode.do is None:
                yield Fault((*loc, key), f"'{key}' goes with 'do'", "say what is to be done")


def _appeal(pack: PolicyPack) -> Iterator[Fault]:
    part = pack.appeal
    if part is None:
        return
    if part.lifted == pack.verdicts[-1]:
        yield Fault(("appeal", "lifted"), f"'{part.lifted}' is the severest verdict: nothing would be lifted")
    if part.acknowledge > part.answer:
        what = "an appeal would have to be answered before somebody has to take it up"
        yield Fault(("appeal", "acknowledge"), what, "write a time that is no longer than 'answer'")


def _challenge(pack: PolicyPack) -> Iterator[Fault]:
    part = pack.challenge
    if part is None:
        return
    place = pack.verdicts.index("challenge")
    if part.passed == "challenge":
        yield Fault(
            ("challenge", "passed"), "a passed challenge cannot lead to a challenge", "write 'rescore' or a verdict"
        )
    for key, verdict in (("failed", part.failed), ("abandoned", part.abandoned)):
        if pack.verdicts.index(verdict) <= place:
            what = f"a challenge that is {key} must lead to something severer than 'challenge'"
            yield Fault(("challenge", key), what, f"one of {', '.join(pack.verdicts[place + 1 :])}")


def _review(pack: PolicyPack) -> Iterator[Fault]:
    part = pack.review
    if part is None:
        return
    approved, rejected = part.approved or pack.verdicts[0], part.rejected or pack.verdicts[-1]
    ends = (("if_late", part.if_late), ("approved", approved), ("rejected", rejected), ("overflow", part.overflow))
    for key, verdict in ends:
        if verdict == "review":
            loc = ("review", key) if getattr(part, key) else ("review",)
            yield Fault(loc, f"'{key}' cannot lead back to a review", "name another verdict")
    if pack.verdicts.index(approved) >= pack.verdicts.index(rejected):
        yield Fault(("review",), "'approved' must be milder than 'rejected'")


def _contradictions(pack: PolicyPack) -> Iterator[Fault]:
    """`at_most` that something severer always overrules, on the same condition or a wider one."""
    rank = pack.verdicts.index
    for at, soft in enumerate(pack.rules):
        if soft.at_most is None:
            continue
        for rule in pack.rules:
            if rule.at_least and rank(rule.at_least) > rank(soft.at_most) and _implies(soft, rule.when, rule.unless):
                what = f"'{rule.id}' asks for at least '{rule.at_least}' whenever this holds, and wins"
                yield Fault(("rules", at, "at_most"), what, "take the exception into the 'unless' of that rule")
        for place, clause in enumerate(pack.mandatory):
            if rank(clause.verdict) > rank(soft.at_most) and _implies(soft, clause.when, []):
                what = f"mandatory clause {clause.id or place + 1} makes it '{clause.verdict}' whenever this holds"
                yield Fault(("rules", at, "at_most"), what, "nothing softens what is mandatory")
    conditions = [frozenset(clause.when) for clause in pack.mandatory]
    for at, repeats in enumerate(Counter(conditions[: at + 1])[when] for at, when in enumerate(conditions)):
        if repeats > 1:
            yield Fault(("mandatory", at, "when"), "another mandatory clause has the same condition", "keep one")


def _implies(rule: PolicyRule, when: Iterable[str], unless: Iterable[str]) -> bool:
    return set(when) <= set(rule.when) and set(unless) <= set(rule.unless)


def _knots(pack: PolicyPack) -> Iterator[Fault]:
    chained = clauses(pack)
    for knot in knots(chained):
        way = " → ".join(dict.fromkeys(chained[index].signal for index in knot.path))
        loc = ("rules", knot.clause, "unless", chained[knot.clause].unless.index(knot.term))
        what = f"the rule stands on its own absence: it leads to {way}, and fires unless '{knot.term}'"
        yield Fault(loc, what, "make one of the signals on this way come from a rule that does not ask for the other")
