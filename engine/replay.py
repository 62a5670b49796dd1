"""Decisions replayed: a recorded decision computed again, and what comes out otherwise.

    replayer = Replayer(rulebook)                  the rulebook that the record pins
    replayer.replay(leaf)                          level recorded: the leaf is enough, also after an erasure
    replayer.replay(leaf, past)                    level full: with the values, lists and models of then

At level `recorded` the answers to questions about personal values and lists stand as they are in the record; the
answers to all other questions, and everything that follows from the answers, are computed again. At level `full` every
answer is. Windows, tier, breakers, queues, modes and what did not work are inputs at both levels: they were the
world's.
What is compared is the whole record, byte for byte as canonical JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import orjson

from engine.build import build
from engine.decide import SOMEWHERE, Question, conclude, decide, gravest_first, notices, outcome_shown, rolled_in
from engine.decide import leaf as leaf_of
from engine.detectors import ANOMALY, Models
from engine.expr import Env, truth
from engine.features import GAPS, Reading
from engine.lists import ListSet
from engine.rulebook import KindBook, Rulebook
from engine.schema import Event, decode, masked_paths
from engine.verdict import Finding

Level = Literal["full", "recorded", "none"]

REPLAY = "replay"
"""The access that opens values to compute with, in the log."""
ABSENT = "(absent)"
"""Stands for a part that only one of two records has."""

OTHER_QUESTIONS = "this version asks the questions of the rulebook in another order than the one that decided"

MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, AssertionError)
"""What a record that was altered runs into."""


@dataclass(frozen=True, slots=True)
class Past:
    """What level `full` needs beside the record and its rulebook.

    `private` are the personal values by subject and path, `commitments` what commits to them by subject (made from the
    opened values, not copied), `keys` the pseudonyms by entity path, `lists` the lists as they were, and `models` the
    models that looked.
    """

    private: Mapping[str, Mapping[str, Any]]
    commitments: Mapping[str, str]
    keys: Mapping[str, str]
    lists: ListSet
    models: Models


@dataclass(frozen=True, slots=True)
class Difference:
    """One part of a record that comes out otherwise. `about` says which question it is and which rules ask it."""

    path: str
    recorded: Any
    recomputed: Any
    about: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a replay ended: at which level, `why` not at level full, every difference, and which `build` decided then:
    it is not computed again, and empty where the record names none."""

    level: Level
    why: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    build: str = ""

    @property
    def equal(self) -> bool:
        """Whether it was computed again and everything came out as recorded."""
        return self.level != "none" and not self.differences


class Replayer:
    """Replays decisions of one rulebook."""

    def __init__(self, rulebook: Rulebook) -> None:
        self.rulebook = rulebook
        self._plain: dict[str, int] = {}

    def replay(self, leaf: bytes, past: Past | None = None, why: Sequence[str] = ()) -> Replayed:
        """A decision's leaf computed again: at level `full` with `past`, else `recorded`; `why` says why not full."""
        level: Level = "recorded" if past is None else "full"
        try:
            record = orjson.loads(leaf)
            kind = self.rulebook.kinds[record["event"]["kind"]]
            if record["pins"]["questions"] != kind.questions:
                return Replayed("none", (OTHER_QUESTIONS,))
            again = self._recorded(kind, record) if past is None else self._full(kind, record, past)
            if leaf_of(again) == leaf:
                return Replayed(level, tuple(why))
            different = _differences(kind, record, orjson.loads(leaf_of(again)))
            return Replayed(level, tuple(why), different, str(record.get("build", "")))
        except MALFORMED as error:
            what = f"it is no sound record of a decision: {type(error).__name__} {error}"
            return Replayed(level, tuple(why), (Difference("", ABSENT, ABSENT, what),))

    # Level full

    def _full(self, kind: KindBook, record: Mapping[str, Any], past: Past) -> dict[str, Any]:
        event = _event(record, self.rulebook.schema.join(kind.kind, _public(record), past.private))
        lists, received_at = _as_available(past.lists, record), event.received_at
        env = Env(event.at, received_at, lists.lookups(received_at, event.tenant), self.rulebook.convert)
        reading = self._reading(kind, record)
        sealed = [(each["subject"], past.commitments.get(each["subject"], ABSENT)) for each in record["sealed"]]
        question = Question(
            **_as_recorded(record, event, reading, env),
            keys=past.keys,
            rolled=kind.rolled(past.keys, event.values),
            look=kind.look(past.models, event.values, reading.values, env),
            lists=lists.hashes(kind.lists, event.tenant),
            sealed=tuple(sealed),
        )
        return _with_inputs(decide(self.rulebook, question).record, record)

    # Level recorded

    def _recorded(self, kind: KindBook, record: Mapping[str, Any]) -> dict[str, Any]:
        values = _public(record)
        event = _event(record, values)
        if record["anomaly"] is not None:
            values = {**values, ANOMALY: Decimal(record["anomaly"])}
        reading = self._reading(kind, record)
        env = Env(event.at, event.received_at, {}, self.rulebook.convert)
        question = Question(**_as_recorded(record, event, reading, env), keys={}, rolled=rolled_in(record))
        asked, plain = kind.matcher(values, reading.values, env), self._asked_of_the_record(kind, event)
        true, unknown = (int(record["atoms"][name], 16) for name in ("true", "unknown"))
        true, unknown = true & ~plain | asked.true & plain, unknown & ~plain | asked.unknown & plain
        match = kind.matcher.replay(true, unknown)
        findings = kind.findings(match, question.rolled)
        exempted = list(self._exempted(record, findings))
        away = {hit["rule"] for hit in exempted}
        found = [finding for finding in findings if finding.rule not in away]
        again = {
            **record,
            "pins": _by_that_code({**record["pins"], **self.rulebook.pins, "questions": kind.questions}, record),
            "atoms": {"true": f"{true:x}", "unknown": f"{unknown:x}"},
            "found": [finding.rule for finding in found],
            "notices": [finding.signal for finding in notices(kind, question)],
            "shadow": list(kind.shadowed(match, question.rolled)),
            "exempted": exempted,
        }
        outcome = conclude(kind, again)
        again.pop("terms", None)  # Where there are some, they come of the outcome.
        return {
            **again,
            **outcome_shown(outcome),
            "score": outcome.score,
            "signals": list(outcome.signals),
            "reasons": [
                _with_lists(kind, record, kind.reason(each, values, reading.values, env))
                for each in gravest_first(found)
            ],
        }

    def _asked_of_the_record(self, kind: KindBook, event: Event) -> int:
        """The questions that the record alone answers, as a mask: about public fields, windows and the anomaly.

        Rules saw the whole text where the record has a masked one: what they asked of it only `full` can tell.
        """
        masked = frozenset(masked_paths(event.values))
        if masked:
            return sum(
                1 << number
                for number, atom in enumerate(kind.matcher.atoms)
                if self._all_plain(kind) >> number & 1 and not masked.intersection(atom.paths)
            )
        return self._all_plain(kind)

    def _all_plain(self, kind: KindBook) -> int:
        """The questions about nothing but public fields, windows and the anomaly, as a mask."""
        if kind.kind not in self._plain:
            fields = self.rulebook.schema.fields(kind.kind)
            self._plain[kind.kind] = sum(
                1 << number
                for number, atom in enumerate(kind.matcher.atoms)
                if not atom.lists and all(path == ANOMALY or fields[path].privacy == "public" for path in atom.paths)
            )
        return self._plain[kind.kind]

    def _exempted(self, record: Mapping[str, Any], findings: Sequence[Finding]) -> Iterator[dict[str, str]]:
        """The recorded hits of exceptions that can have been: whether the subject was the one only `full` can tell."""
        items = {item.id: item for item in self.rulebook.exemptions.items}
        at = record["event"]["received_at"]
        for finding in findings:
            for hit in record["exempted"]:
                item = items.get(hit["exemption"])
                if item is None or hit["rule"] != finding.rule or not item.covers(finding):
                    continue
                if item.since <= at < item.until and item.tenant in ("", record["tenant"]):
                    yield hit

    # Both

    def _reading(self, kind: KindBook, record: Mapping[str, Any]) -> Reading:
        values: list[Any] = [None] * len(self.rulebook.windows)
        for slot, value in zip(kind.slots, record["features"], strict=True):
            values[slot] = decode(value)
        # Where a gap was is not recorded, only which there were, and in what order.
        told = [name for name in record["notices"] if name in GAPS]
        gaps = tuple((SOMEWHERE, cause) for cause in told)
        return Reading(values, gaps, False, record["event"]["arrival"])


def _as_recorded(record: Mapping[str, Any], event: Event, reading: Reading, env: Env) -> dict[str, Any]:
    """The inputs of a decision that both levels take from the record."""
    seen = record["situation"]
    return {
        "id": record["id"],
        "event": event,
        "public": _public(record),
        "arrival": record["event"]["arrival"],
        "reading": reading,
        "env": env,
        "tier": seen["tier"],
        "degraded": tuple(seen["degraded"]),
        "tripped": frozenset(seen["tripped"]),
        "review_open": seen["review_open"],
        "modes": tuple(seen.get("modes", ())),
        "standings": seen.get("standings", {}),
        "images": record.get("images"),
    }


def _public(record: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = decode(record["event"]["public"])
    return values


def _event(record: Mapping[str, Any], values: dict[str, Any]) -> Event:
    event = record["event"]
    return Event(
        *(event["kind"], record["tenant"], event["id"], event["order"], event["at"], event["received_at"]), values
    )


def _as_available(lists: ListSet, record: Mapping[str, Any]) -> ListSet:
    """The lists, without those that could not be read then."""
    return lists.with_unreadable(name for name, pin in record["pins"]["lists"].items() if pin == "unavailable")


def _with_inputs(again: dict[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A record made anew, with the values of windows as they were spelt, and the code that decided then."""
    again.pop("build")
    kept = {name: record[name] for name in ("features", "build") if name in record}
    return {**again, "pins": _by_that_code(again["pins"], record), **kept}


def _by_that_code(pins: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The pins with the hash of all fields as the code of then had it: another version may describe a field otherwise,
    and which questions were asked of the fields is a pin of its own."""
    if record.get("build") == build():
        return dict(pins)
    return {**pins, "schema": record["pins"]["schema"]}


def _with_lists(kind: KindBook, record: Mapping[str, Any], reason: dict[str, Any]) -> dict[str, Any]:
    """A reason, with the message of then where it shows what lists held."""
    (rule,) = (each for each in kind.rules if each.id == reason["rule"])
    if not any(shown.lists for shown in rule.shown.values()):
        return reason
    told = [each["message"] for each in record["reasons"] if each["rule"] == rule.id]
    return {**reason, "message": told[0] if told else ABSENT}


# What is different


def _differences(kind: KindBook, record: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[Difference, ...]:
    found = [*_atoms(kind, record["atoms"], again["atoms"])]
    found += _walk("", {**record, "atoms": None}, {**again, "atoms": None})
    return tuple(found) or (Difference("", ABSENT, ABSENT, "its bytes are not the canonical JSON of the record"),)


def _atoms(kind: KindBook, then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Difference]:
    """Each question that has another answer, with the rules that ask it."""
    masks = [int(each[name], 16) for each in (then, now) for name in ("true", "unknown")]
    if max(masks) >> len(kind.matcher.atoms):
        yield Difference("atoms", dict(then), dict(now), "it has answers to questions that nobody asks")
    for number, atom in enumerate(kind.matcher.atoms):
        answers = truth(number, *masks[:2]), truth(number, *masks[2:])
        odd = (masks[0] & masks[1]) >> number & 1  # Both at once, which no answer is.
        if answers[0] != answers[1] or odd:
            rules = [rule.id for index, rule in enumerate(kind.rules) if _asks(kind, index, number)]
            yield Difference(f"atoms[{number}]", *answers, f"{atom.text}  (asked by {', '.join(rules)})")


def _asks(kind: KindBook, rule: int, atom: int) -> bool:
    return any(number == atom for number, _ in kind.matcher.atoms_of(rule))


def _walk(path: str, then: Any, now: Any) -> Iterator[Difference]:
    if then == now and type(then) is type(now):
        return
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted(then.keys() | now.keys()):
            yield from _walk(f"{path}.{name}".lstrip("."), then.get(name, ABSENT), now.get(name, ABSENT))
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now) and _of_objects(then, now):
        for index, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from _walk(f"{path}[{index}]", one, other)
    else:
        yield Difference(path, then, now)


def _of_objects(*lists: Sequence[Any]) -> bool:
    return all(isinstance(item, dict) for items in lists for item in items)
