"""One event, one verdict: values in, record out. Nothing here waits, reads a clock or touches the world.

The record that `decide` gives is the ledger's leaf. It holds no personal data: public values, feature values, truth
values of every atom, hashes of all that was used, and commitments to what the vault holds. Two ways lead back to a
verdict: `decide` again, from all values (`full`), or `conclude` from the recorded truth values alone (`recorded`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from engine.build import build
from engine.detectors import ANOMALY, Look
from engine.errors import Conflict
from engine.exemptions import Hit
from engine.expr import Env, Match
from engine.expr.nodes import Finds
from engine.expr.python import reach
from engine.features import THIN_IDENTITY, Reading
from engine.jcs import canonical_trusted
from engine.policy import Situation
from engine.rulebook import NONE_ROLLED, KindBook, Rulebook
from engine.schema import Event, encode, marked
from engine.verdict import SEVERITIES, Finding, Outcome

FORMAT = 1
"""Version of the record format; every reader keeps reading every version."""

SOMEWHERE = -1
"""The window of a gap of which only is known that it was."""

LATE = 5 * 60 * 1_000_000
"""µs after which an event that arrives is marked late."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that a decision depends on, as values.

    `reading` are the feature values; `look` is what the anomaly models say (`KindBook.look`); `env` carries the clock
    readings, lists and rates; `degraded` names what did not work (`deadline`, `features_unavailable` …); `lists` are
    the hashes of the lists in use; `standings` are the tiers of other profiles than the merchant's; `rolled` are the
    rules of a rollout that are live for this event; `modes` those that are switched on; `sealed` pairs each subject
    with the commitment to its personal data; `images` is what the event's images were found to show, where it names
    some: the evidence for derived fields that `event` and `public` have.
    """

    id: str
    event: Event
    public: Mapping[str, Any]
    keys: Mapping[str, str]
    arrival: int
    reading: Reading
    env: Env
    tier: str
    degraded: tuple[str, ...] = ()
    look: Look | None = None
    images: Mapping[str, Any] | None = None
    tripped: frozenset[str] = frozenset()
    review_open: bool = True
    lists: Mapping[str, str] = field(default_factory=dict)
    rolled: frozenset[str] = NONE_ROLLED
    standings: Mapping[str, str] = field(default_factory=dict)
    sealed: tuple[tuple[str, str], ...] = ()
    modes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, the record that proves it (`leaf` gives its bytes), and what the anomaly models saw."""

    outcome: Outcome
    findings: tuple[Finding, ...]
    record: dict[str, Any]
    look: Look | None = None


def leaf(record: Mapping[str, Any]) -> bytes:
    """The canonical JSON (RFC 8785) of a record: what the ledger keeps."""
    return canonical_trusted(record, marked)


def decide(rulebook: Rulebook, question: Question) -> Decision:
    """The decision on one event.

    Order: conditions → findings → exemptions → policy → reasons → record. Raises nothing for any event that the
    schema accepts; what could not be known is a finding of its own.
    """
    event = question.event
    kind = rulebook.kinds[event.kind]
    assert kind.policy is not None, "only kinds that a policy judges come here"
    features, env = question.reading.values, question.env
    look = question.look
    values = {**event.values, ANOMALY: look.odd.percentile} if look else event.values
    match = kind.matcher(values, features, env)
    found, hits = rulebook.exemptions.applies(
        kind.findings(match, question.rolled),
        tenant=event.tenant,
        keys=question.keys,
        values=event.values,
        at=event.received_at,
    )
    noticed = notices(kind, question)
    tests = {
        cause: kind.degraded_tests[cause](event.values, features, env)
        for cause in question.degraded
        if cause in kind.degraded_tests
    }
    modes = kind.in_modes(question.modes, event.values, features, env) if question.modes else {}
    calm = _situation(question, tests, modes)
    tests |= kind.over(kind.policy.tiers(calm), event.values, features, env)
    outcome = kind.policy.judge((*found, *noticed), calm)
    record = _record(rulebook, kind, question, values, match, found, noticed, hits, tests, modes, outcome)
    return Decision(outcome, (*found, *noticed), record, look)


def conclude(kind: KindBook, record: Mapping[str, Any], *, challenge_passed: bool = False) -> Outcome:
    """The outcome of a recorded decision, computed again from its truth values alone (level `recorded`).

    `kind` is of the rulebook that the record pins. It works after personal data is erased, for it needs none.
    `challenge_passed` judges as after a passed challenge. Raises Conflict when the record's truth values are not those
    of the questions that `kind` asks.
    """
    assert kind.policy is not None, "a recorded decision had a policy"
    if record["pins"]["questions"] != kind.questions:
        raise Conflict("this version asks the questions of the rulebook in another order than the one that decided")
    match = kind.matcher.replay(int(record["atoms"]["true"], 16), int(record["atoms"]["unknown"], 16))
    exempted = {hit["rule"] for hit in record["exempted"]}
    rolled = rolled_in(record)
    found = [finding for finding in kind.findings(match, rolled) if finding.rule not in exempted]
    noticed = map(notice, record["notices"])
    seen = record["situation"]
    situation = Situation(
        tier=seen["tier"],
        causes=tuple(seen["degraded"]),
        anomaly=None if record["anomaly"] is None else Decimal(record["anomaly"]),
        test=seen["tests"].get,
        tripped=frozenset(seen["tripped"]),
        review_open=seen["review_open"],
        challenge_passed=challenge_passed,
        modes=tuple(sorted(seen.get("modes", {}).items())),
        standings=seen.get("standings", {}),
        event=record["event"]["id"],
    )
    return kind.policy.judge((*found, *noticed), situation)


def rolled_in(record: Mapping[str, Any]) -> frozenset[str]:
    """The rules of a rollout that were live for a recorded decision; none before there were rollouts."""
    return frozenset(record["situation"].get("rollout", ()))


def notice(signal: str) -> Finding:
    """Something that Arbiter itself has to say about an event."""
    return Finding(rule=f"arbiter.{signal}", signal=signal)


def notices(kind: KindBook, question: Question) -> tuple[Finding, ...]:
    """What Arbiter itself has to say: gaps in the features, lateness, whatever did not work.

    A gap counts where a live rule or the anomaly model reads the window: a rule in the shadow changes nothing. One
    of which a record does not say in which window it was (`SOMEWHERE`) did count.
    """
    basis = kind.basis(question.rolled)
    gaps = [(slot, cause) for slot, cause in question.reading.gaps if slot in basis.slots or slot == SOMEWHERE]
    names = dict.fromkeys(cause for _, cause in gaps if cause != THIN_IDENTITY)
    thin = {slot for slot, cause in gaps if cause == THIN_IDENTITY}
    if SOMEWHERE in thin or (basis.identities and basis.identities <= thin):
        names[THIN_IDENTITY] = None
    names |= dict.fromkeys(question.degraded)
    if question.event.received_at - question.event.at > LATE:
        names["late_event"] = None
    return tuple(map(notice, names))


def _situation(question: Question, tests: Mapping[str, bool | None], modes: Mapping[str, bool | None]) -> Situation:
    look = question.look
    return Situation(
        tier=question.tier,
        causes=question.degraded,
        anomaly=look.odd.percentile if look else None,
        test=tests.get,
        tripped=question.tripped,
        review_open=question.review_open,
        modes=tuple(modes.items()),
        standings=question.standings,
        event=question.event.id,
    )


def _record(
    rulebook: Rulebook,
    kind: KindBook,
    question: Question,
    values: dict[str, Any],
    match: Match,
    found: Sequence[Finding],
    noticed: Sequence[Finding],
    hits: Sequence[Hit],
    tests: Mapping[str, bool | None],
    modes: Mapping[str, bool | None],
    outcome: Outcome,
) -> dict[str, Any]:
    event, env, features, look = question.event, question.env, question.reading.values, question.look
    # Messages show public fields alone, and in the leaf as the leaf has them: without what somebody typed into them.
    # Phrases that they show are found in the whole text; they are the list's own.
    said = {**_with_searched(kind, match, question.public, values), ANOMALY: values.get(ANOMALY)}
    return {
        "format": FORMAT,
        "build": build(),
        "type": "decision",
        "id": question.id,
        "tenant": event.tenant,
        "refers_to": None,
        "decided_at": event.received_at,
        "event": _event(event, question.public, question.arrival),
        "pins": {
            **rulebook.pins,
            "questions": kind.questions,
            "lists": dict(question.lists),
            "model": look.seat.model.name if look else None,
        },
        "situation": {
            "tier": question.tier,
            "degraded": list(question.degraded),
            "tests": dict(tests),
            "tripped": sorted(question.tripped),
            "review_open": question.review_open,
            **({"rollout": sorted(question.rolled)} if kind.rollouts else {}),
            **({"modes": dict(modes)} if modes else {}),
            **({"standings": dict(question.standings)} if question.standings else {}),
        },
        "features": [encode(features[slot]) for slot in kind.slots],
        "atoms": {"true": f"{match.true:x}", "unknown": f"{match.unknown:x}"},
        "found": [finding.rule for finding in found],
        "notices": [finding.signal for finding in noticed],
        "shadow": list(kind.shadowed(match, question.rolled)),
        "exempted": [{"rule": hit.rule, "exemption": hit.exemption} for hit in hits],
        **outcome_shown(outcome),
        "score": outcome.score,
        "anomaly": str(look.odd.percentile) if look else None,
        "challengers": [{"model": name, "anomaly": str(odd)} for name, odd in look.beside] if look else [],
        "unusual": _unusual(kind, look, outcome),
        "signals": list(outcome.signals),
        "reasons": [kind.reason(finding, said, features, env) for finding in gravest_first(found)],
        **_hits(kind, match, values, env),
        "sealed": _sealed(question.sealed),
        **({"images": question.images} if question.images else {}),
    }


def _with_searched(
    kind: KindBook, match: Match, public: Mapping[str, Any], values: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The public values, and the texts in which rules that fired look for phrases. No message may show those."""
    whole: dict[str, Any] = dict(public)
    for path in dict.fromkeys(path for index in match.fired for path, _ in kind.rules[index].searched):
        *parents, last = path.split(".")
        here, there = whole, values
        for parent in parents:
            there = there.get(parent) or {}
            if not isinstance(there, Mapping):
                break
            here[parent] = here = dict(here.get(parent) or {})
        else:
            if last not in here and there.get(last) is not None:
                here[last] = there[last]
    return whole


def _hits(kind: KindBook, match: Match, values: dict[str, Any], env: Env) -> dict[str, Any]:
    """Where the phrases of lists stand that rules looked for which fired: nothing of the text, and no key at all where
    there are none, as before there were such lists."""
    searched = dict.fromkeys(pair for index in match.fired for pair in kind.rules[index].searched)
    hits = [hit for path, name in searched for hit in _hits_in(values, path, name, env)]
    return {"hits": hits} if hits else {}


def _hits_in(values: dict[str, Any], path: str, name: str, env: Env) -> Iterator[dict[str, Any]]:
    known, found = env.lists.get(name), reach(values, path.split("."))
    if not isinstance(known, Finds) or found is None:
        return
    for place, text in enumerate(found):
        field = path if len(found) == 1 else f"{path}[{place}]"
        for hit in (text and known.hits(text)) or ():
            yield {"field": field, "list": name, "phrase": hit.phrase, "start": hit.start, "end": hit.end}


def _unusual(kind: KindBook, look: Look | None, outcome: Outcome) -> list[dict[str, Any]]:
    """What makes the event odd, where that is worth the walk through the trees: above the mildest verdict."""
    if look is None or kind.detector is None or kind.policy is None or outcome.verdict == kind.policy.verdicts[0]:
        return []
    return kind.detector.unusual(look)


def outcome_shown(outcome: Outcome) -> dict[str, Any]:
    """The parts of an outcome that decisions and resolutions show alike."""
    return {
        "verdict": outcome.verdict,
        "actions": [{"do": action.do, "for_s": action.seconds, "basis": action.basis} for action in outcome.actions],
        "steps": [
            {"by": step.by, "name": step.name, "before": step.before, "after": step.after} for step in outcome.steps
        ],
        "asks": dict(outcome.asks) if outcome.asks else None,
        **({"terms": dict(outcome.terms)} if outcome.terms else {}),
    }


def gravest_first(found: Sequence[Finding]) -> list[Finding]:
    """Findings in the order in which reasons are told."""
    return sorted(found, key=lambda f: (-SEVERITIES.index(f.severity), -f.points, f.rule))


def noted(
    id: str, event: Event, public: Mapping[str, Any], arrival: int, sealed: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The record of an event that is not judged: it only feeds windows."""
    return {
        "format": FORMAT,
        "build": build(),
        "type": "event",
        "id": id,
        "tenant": event.tenant,
        "event": _event(event, public, arrival),
        "sealed": _sealed(sealed),
    }


def _event(event: Event, public: Mapping[str, Any], arrival: int) -> dict[str, Any]:
    return {
        "id": event.id,
        "kind": event.kind,
        "order": event.order,
        "at": event.at,
        "received_at": event.received_at,
        "arrival": arrival,
        "public": public,
    }


def _sealed(sealed: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"subject": subject, "commitment": commitment} for subject, commitment in sealed]
