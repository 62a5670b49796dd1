"""One assessment: the values of a profile's windows in, points and a tier out. Pure, and recorded whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.expr import Env
from engine.money import Money
from engine.profiles.ladder import Standing
from engine.profiles.profile import Factor, Profile
from engine.rules import message, show
from engine.schema import decode, encode

Convert = Callable[[Money, str, int], Money | None]

SLIGHT, CLEAR, HEAVY = "slight", "clear", "heavy"
"""How much a factor weighs, as it is told to whom it is about: below a quarter and a half of what leads to the worst
tier, and above."""
LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Weighed:
    """What one factor said: its answer (a truth or a number; None is unknown), the points it gives, and those of them
    that count, which of a group only the highest do. `shown` are the values of its messages, by language."""

    factor: Factor
    answer: Any
    points: int
    counted: int
    shown: Mapping[str, Mapping[str, str]]

    def because(self, language: str) -> str:
        """Why it counts."""
        return message(self.factor.because[language], self.shown[language])

    def improve(self, language: str) -> str:
        """What to do about it."""
        return message(self.factor.improve[language], self.shown[language])


@dataclass(frozen=True, slots=True)
class Assessment:
    """Where somebody stands at `at` (UTC µs) and why. `before` is where they stood, None for nowhere; `values` are
    those of the profile's windows, in its order."""

    profile: Profile
    subject: str
    at: int
    values: tuple[Any, ...]
    weighed: tuple[Weighed, ...]
    points: int
    before: Standing | None
    after: Standing

    @property
    def moved(self) -> bool:
        """Whether the tier is another one."""
        return self.before is None or self.before.tier != self.after.tier

    @property
    def review_at(self) -> int:
        """When to look again (UTC µs)."""
        return self.profile.ladder.review_at(self.after, self.at)

    def weight(self, weighed: Weighed) -> str:
        """How much a factor weighs, in words that tell no limit."""
        part = weighed.counted * 4 // max(1, self.profile.ladder.rungs[-1].enter)
        return SLIGHT if part < 1 else CLEAR if part < 2 else HEAVY  # quarters

    def record(self) -> dict[str, Any]:
        """All of it as JSON: what the ledger keeps, and `recomputed` computes again."""
        return {
            "profile": self.profile.name,
            "at": self.at,
            "before": None if self.before is None else {"tier": self.before.tier, "since": self.before.since},
            "after": {"tier": self.after.tier, "since": self.after.since},
            "points": self.points,
            "windows": [
                {"name": window.name, "value": encode(value)}
                for window, value in zip(self.profile.windows, self.values, strict=True)
            ],
            "factors": [
                {
                    "id": each.factor.id,
                    "answer": encode(each.answer),
                    "points": each.points,
                    "counted": each.counted,
                    "because": {language: each.because(language) for language in LANGUAGES},
                    "improve": {language: each.improve(language) for language in LANGUAGES},
                    "weight": self.weight(each),
                }
                for each in self.weighed
                if each.points or each.answer is None
            ],
        }


def assess(
    profile: Profile, subject: str, at: int, values: Sequence[Any], before: Standing | None, convert: Convert
) -> Assessment:
    """Where the subject stands now. `values` are those of `profile.windows`; None is unknown.

    Pure: the same values give the same assessment.
    """
    env = Env(at, at, {}, convert)
    weighed = _counted([_weigh(profile, number, subject, at, values, env) for number in range(len(profile.factors))])
    points = sum(each.counted for each in weighed)
    after = profile.ladder.next(before, points, at)
    return Assessment(profile, subject, at, tuple(values), weighed, points, before, after)


def _weigh(profile: Profile, number: int, subject: str, at: int, values: Sequence[Any], env: Env) -> Weighed:
    factor, (question, shown) = profile.factors[number], profile.tests_of[number]
    event = profile.values(subject, at)
    answer = question(event, values, env)
    points = factor.weighed(answer)
    found = {name: (test(event, values, env), factor.shown[name].type) for name, test in shown.items()}
    texts = {
        language: {name: show(value, type_, language) for name, (value, type_) in found.items()}
        for language in LANGUAGES
    }
    return Weighed(factor, answer, points, points, texts)


def _counted(weighed: Sequence[Weighed]) -> tuple[Weighed, ...]:
    """The same, where of each group only the first of the highest counts."""
    best: dict[str, int] = {}
    for number, each in enumerate(weighed):
        group = each.factor.group
        if group and (group not in best or each.points > weighed[best[group]].points):
            best[group] = number
    kept = []
    for number, each in enumerate(weighed):
        counts = not each.factor.group or best[each.factor.group] == number
        kept.append(Weighed(each.factor, each.answer, each.points, each.points if counts else 0, each.shown))
    return tuple(kept)


def recomputed(profile: Profile, subject: str, record: Mapping[str, Any], convert: Convert) -> dict[str, Any]:
    """A recorded assessment computed again from the values in it, as `Assessment.record` gives it.

    `profile` and `convert` are those of the rulebook of then. Raises KeyError or ValueError for what is no record.
    """
    known = {each["name"]: decode(each["value"]) for each in record["windows"]}
    values = [known[window.name] for window in profile.windows]
    stood = record["before"]
    before = None if stood is None else Standing(stood["tier"], stood["since"])
    return assess(profile, subject, record["at"], values, before, convert).record()
