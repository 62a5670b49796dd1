"""Profiles tried on the tests written beside them, by the same windows and the same assessment as on a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import Problem, did_you_mean
from engine.features import Facts, Features
from engine.profiles import Assessment, Profile, Standing, assess
from engine.profiles.pack import ProfileTest
from engine.rulebook import Rulebook
from engine.rules import Before
from engine.schema import instant
from engine.stores import MemoryStore
from engine.trial import CLOCK, Misplaced, Trial, stage_scene


class _Scene(NamedTuple):
    """A history with an event of the subject behind it, which only says who is assessed."""

    before: Sequence[Before]
    kind: str
    event: Mapping[str, Any]


def try_profiles(rulebook: Rulebook) -> Iterator[tuple[Trial, str]]:
    """Run the tests of all profiles, in order, each with the file that it is in."""
    for profile in rulebook.profiles.values():
        for index, test in enumerate(profile.tests):
            problem = _problem(rulebook, profile, index, test)
            yield Trial(f"profile {profile.name}", test.it, problem), profile.document.file


def play(rulebook: Rulebook, profile: Profile, test: ProfileTest) -> Assessment:
    """What the profile says in a test. Raises Misplaced for what is no event or no time."""
    now = _time(test)
    usual = _kind_with(rulebook, profile)
    staged = stage_scene(rulebook, usual, _Scene(test.before, usual, {profile.subject: str(test.subject)}), now)
    *earlier, last = staged.facts
    features = Features(profile.windows, MemoryStore(), reads={profile.kind: range(len(profile.windows))},
                        convert=rulebook.convert)  # fmt: skip
    features.restore(())
    for each in earlier:
        features.observe(each)
    subject = last.keys.get(profile.subject, str(test.subject))
    asking = Facts(profile.kind, last.tenant, "assessed", now, last.arrival, profile.values(subject, now),
                   profile.keys(subject))  # fmt: skip
    values = features.observe(asking).values
    before = None if test.tier is None else Standing(str(test.tier), now - (test.stood or 0))
    return assess(profile, subject, now, values, before, rulebook.convert)


def _problem(rulebook: Rulebook, profile: Profile, index: int, test: ProfileTest) -> Problem | None:
    loc = ("tests", index)
    document = profile.document
    if test.tier is not None and test.tier not in profile.ladder.tiers:
        hint = did_you_mean(str(test.tier), profile.ladder.tiers) or "one of " + ", ".join(profile.ladder.tiers)
        return document.problem((*loc, "tier"), f"there is no tier '{test.tier}'", hint)
    try:
        found = play(rulebook, profile, test)
    except Misplaced as error:
        return document.problem((*loc, *error.loc), str(error), error.hint, key=error.key)
    wrong = "; ".join(_wrong(profile, test, found))
    if not wrong:
        return None
    told = ", ".join(f"{each.factor.id} {each.counted}" for each in found.weighed if each.points)
    what = f"profile '{profile.name}': the test '{test.it}': {wrong}"
    return document.problem((*loc, "expect"), what, f"{found.points} points: {told or 'no factor holds'}")


def _wrong(profile: Profile, test: ProfileTest, found: Assessment) -> Iterator[str]:
    expect, held = test.expect, {each.factor.id for each in found.weighed if each.points}
    known = {factor.id for factor in profile.factors}
    if expect.tier != found.after.tier:
        yield f"expects the tier '{expect.tier}', it is '{found.after.tier}'"
    if expect.points is not None and expect.points != found.points:
        yield f"expects {expect.points} points, there are {found.points}"
    for name in (*expect.factors, *expect.no_factors):
        if name not in known:
            yield f"there is no factor '{name}'"
    yield from (f"expects the factor '{name}'" for name in expect.factors if name in known - held)
    yield from (f"expects no factor '{name}'" for name in expect.no_factors if name in held)


def _time(test: ProfileTest) -> int:
    if test.at is None:
        return CLOCK
    try:
        return instant(str(test.at))
    except ValueError:
        raise Misplaced("write a time such as 2026-11-20T10:00:00+08:00", "at") from None


def _kind_with(rulebook: Rulebook, profile: Profile) -> str:
    """A kind of event that names such a subject."""
    return next(kind for kind in rulebook.schema.kinds if profile.subject in rulebook.schema.body_fields(kind))
