"""One case judged as an event is judged online, and what of it is otherwise than expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.decide import Decision, Question, decide
from engine.exemptions import Exemptions
from engine.explain import explanation
from engine.expr import Env
from engine.features import STORE_UNAVAILABLE, Reading
from engine.lists import UNAVAILABLE
from engine.packs import Loc
from engine.rulebook import Rulebook
from engine.suites.expansion import Filled
from engine.suites.pack import Expected
from engine.trial import Staged, stage_scene

NOTHING = "nothing"
"""What is asked of nobody."""


@dataclass(frozen=True)
class Judged:
    """A decision, and its explanation."""

    decision: Decision
    explained: dict[str, Any]

    def lines(self) -> list[str]:
        """The explanation in lines, as `differences` looks for pieces of it."""
        record = self.decision.record
        lines = [f"{record['verdict']} at score {record['score']}"]
        lines += [f"{step['by']} {step['name']}: {step['before']} -> {step['after']}" for step in record["steps"]]
        for rule in self.explained["rules"]:
            exempted = f", exempted by {rule['exemption']}" if rule["exemption"] else ""
            lines.append(f"{rule['rule']}: {rule['signal']}, {rule['severity']}, {rule['points']} points{exempted}")
            lines += [f"  {text}" for text in (rule["message"] or {}).values()]
            lines += [f"  {question['answer']:<8}{question['asks']}" for question in rule["questions"]]
        lines += [f"in the shadow, so it counts for nothing: {rule}" for rule in record["shadow"]]
        lines += [f"notice: {signal}" for signal in record["notices"]]
        if self.explained["unknown"]:
            lines.append(f"could not tell: {', '.join(self.explained['unknown'])}")
        return lines

    def differences(self, expect: Expected) -> Iterator[tuple[Loc, str]]:
        """(place in `expect`, what is otherwise)."""
        record = self.decision.record
        if expect.verdict is not None and record["verdict"] != expect.verdict:
            yield ("verdict",), f"expects the verdict '{expect.verdict}', it is '{record['verdict']}'"
        if expect.score is not None and record["score"] != expect.score:
            yield ("score",), f"expects a score of {expect.score}, it is {record['score']}"
        asked = _asked(record["asks"])
        if expect.asks is not None and asked != expect.asks:
            yield ("asks",), f"expects that '{expect.asks}' is asked, it is '{asked}'"
        ways = record["asks"]["challenge"]["by"] if asked == "challenge" else ()
        found: dict[str, tuple[str, Iterable[str]]] = {
            "signals": ("the signal", record["signals"]),
            "rules": ("the rule", [reason["rule"] for reason in record["reasons"]]),
            "actions": ("the action", [action["do"] for action in record["actions"]]),
            "exempted": ("the exception", [hit["exemption"] for hit in record["exempted"]]),
            "by": ("the challenge", ways),
            "steps": ("the step", [step["name"] for step in record["steps"]]),
        }
        for key, (noun, there) in found.items():
            yield from _lacking(key, noun, getattr(expect, key), list(there))
            yield from _unwanted(f"no_{key}", noun, getattr(expect, f"no_{key}", ()), list(there))
        whole = "\n".join(self.lines())
        for place, piece in enumerate(expect.explanation):
            if piece not in whole:
                yield ("explanation", place), f"expects '{piece}' in the explanation"


def _asked(asks: Any) -> str:
    return next(iter(asks)) if asks else NOTHING


def _lacking(key: str, noun: str, wanted: Iterable[str], there: list[str]) -> Iterator[tuple[Loc, str]]:
    for place, name in enumerate(wanted):
        if name not in there:
            yield (key, place), f"expects {noun} '{name}', there is {', '.join(there) or 'none'}"


def _unwanted(key: str, noun: str, wanted: Iterable[str], there: list[str]) -> Iterator[tuple[Loc, str]]:
    for place, name in enumerate(wanted):
        if name in there:
            yield (key, place), f"expects no {noun.removeprefix('the ')} '{name}', it is there"


def judge(rulebook: Rulebook, usual: str, case: Filled, clock: int) -> Judged:
    """The decision on a case. Its kind is one that a policy judges. Raises Misplaced."""
    staged = stage_scene(rulebook, usual, case, clock)
    book = rulebook if case.case.exceptions else replace(rulebook, exemptions=Exemptions())
    decision = decide(book, _question(book, staged, case))
    private = rulebook.schema.split(staged.event)[1]
    return Judged(decision, explanation(decision.record, book, private))


def _question(rulebook: Rulebook, staged: Staged, case: Filled) -> Question:
    facts = staged.facts[-1]
    kind = rulebook.kinds[staged.kind]
    env = staged.env
    if UNAVAILABLE in case.degraded:
        env = Env(env.at, env.received_at, {}, env.convert)
    return Question(
        id="test",
        event=staged.event,
        public=facts.values,
        keys=facts.keys,
        arrival=facts.arrival,
        reading=_reading(rulebook, staged, case),
        env=env,
        tier=case.tier,
        degraded=case.degraded,
        tripped=case.tripped,
        review_open=case.case.review == "open",
        lists=rulebook.lists.hashes(kind.lists, "test"),
        modes=case.modes,
    )


def _reading(rulebook: Rulebook, staged: Staged, case: Filled) -> Reading:
    """The windows as of the event; without a store all are unknown."""
    if "features_unavailable" not in case.degraded:
        return staged.reading(rulebook.windows, rulebook, rulebook.reads)
    gaps = tuple((slot, STORE_UNAVAILABLE) for slot in rulebook.reads[staged.kind])
    return Reading([None] * len(rulebook.windows), gaps, False, staged.facts[-1].arrival)
