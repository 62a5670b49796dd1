"""A profile, read and checked: factors as expressions over windows, and the ladder of its tiers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

from engine.errors import Problem, did_you_mean
from engine.expr import BOOL, NUMBER, Expression, Vocabulary, Window, value_of
from engine.packs import Document, Loc, fit
from engine.policy import MERCHANT
from engine.profiles.ladder import Ladder, Rung
from engine.profiles.pack import FactorText, ProfilePack, ProfileTest, TierText
from engine.rules import PackReader
from engine.schema import FieldDef

ASSESSED = "assessed"
"""Begins the name under which windows are read for an assessment, which is no event."""
AT = "at"


@dataclass(frozen=True)
class Factor:
    """One thing that counts. A condition has a scale of one step; `shown` are the values in its messages."""

    id: str
    question: Expression
    scale: tuple[tuple[Decimal, int], ...]
    points: int
    group: str
    counts_unknown: bool
    because: Mapping[str, str]
    improve: Mapping[str, str]
    shown: Mapping[str, Expression] = field(repr=False)

    @property
    def most(self) -> int:
        """The most points that it can give."""
        return max([self.points, *(points for _, points in self.scale)])

    def weighed(self, answer: Any) -> int:
        """The points for an answer: of the condition, or of the value; None is unknown."""
        if answer is None:
            return self.most if self.counts_unknown else 0
        if self.question.type == BOOL:
            return self.points if answer else 0
        return max((points for limit, points in self.scale if answer >= limit), default=0)


@dataclass(frozen=True)
class Profile:
    """How somebody is assessed. `events` are the kinds after which they are, not again within `wait` (µs); `personal`
    says that the subject's name is personal, so that only its pseudonym is kept."""

    name: str
    about: str
    owner: str
    subject: str
    personal: bool
    events: frozenset[str]
    wait: int
    factors: tuple[Factor, ...]
    ladder: Ladder
    tests: tuple[ProfileTest, ...] = field(repr=False)
    document: Document = field(repr=False)

    @property
    def kind(self) -> str:
        """The name under which its windows are read."""
        return f"{ASSESSED} {self.name}"

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """What it looks at, in the order in which their values are recorded."""
        asked = [factor.question for factor in self.factors]
        asked += [shown for factor in self.factors for shown in factor.shown.values()]
        return tuple(dict.fromkeys(window for each in asked for window in each.windows))

    @cached_property
    def tests_of(self) -> tuple[tuple[Any, Mapping[str, Any]], ...]:
        """For each factor its question and the values that it shows, compiled."""
        return tuple(
            (
                value_of(factor.question, self.windows),
                {name: value_of(shown, self.windows) for name, shown in factor.shown.items()},
            )
            for factor in self.factors
        )

    def values(self, subject: str, at: int) -> dict[str, Any]:
        """What windows see of the subject as an event has it: in clear where it is public, else nothing."""
        found: dict[str, Any] = {}
        if not self.personal:
            inner = found
            *parents, name = self.subject.split(".")
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[name] = subject
        return {**found, AT: at}

    def keys(self, subject: str) -> dict[str, str]:
        """The pseudonym of a personal subject, by its path."""
        return {self.subject: subject} if self.personal else {}


@dataclass
class ProfileReader:
    """Reads the files of profiles against the fields of one rulebook; problems pile up in `rules.problems`."""

    rules: PackReader
    kinds: Mapping[str, Mapping[str, FieldDef]]
    tiers: Mapping[str, Any]
    """The tiers of all policies."""
    unread: frozenset[str] = frozenset()

    @property
    def problems(self) -> list[Problem]:
        return self.rules.problems

    def profiles(self, documents: Sequence[Document]) -> dict[str, Profile]:
        """The profiles, by name."""
        found: dict[str, Profile] = {}
        for document in documents:
            fits = fit(document, ProfilePack)
            self.problems.extend(fits.problems)
            if fits.pack is None or fits.problems:
                continue
            pack = fits.pack
            if pack.profile in found:
                what = f"there is a profile '{pack.profile}' already"
                self.problems.append(document.problem(("profile",), what, f"it is {found[pack.profile].document.file}"))
                continue
            before = len(self.problems)
            profile = self._profile(document, pack)
            if profile is not None and len(self.problems) == before:
                found[profile.name] = profile
        return found

    def _profile(self, document: Document, pack: ProfilePack) -> Profile | None:
        self.problems.extend(_ladder_problems(document, pack))
        self.problems.extend(self._tier_problems(document, pack))
        subject = self._subject(document, pack)
        if subject is None:
            return None
        events = self._events(document, pack)
        words = self.rules.names(document, pack.let, self._vocabulary(subject))
        factors = [self._factor(document, ("factors", at), each, words) for at, each in enumerate(pack.factors)]
        self.problems.extend(_twice(document, "factors", "id", [str(each.id) for each in pack.factors]))
        if not all(factors) or events is None:
            return None
        return Profile(
            name=str(pack.profile),
            about=str(pack.about),
            owner=str(pack.owner),
            subject=str(pack.subject),
            personal=bool(subject.entity),
            events=events,
            wait=pack.moments.wait if pack.moments else 0,
            factors=tuple(each for each in factors if each is not None),
            ladder=ladder_of(pack),
            tests=tuple(pack.tests),
            document=document,
        )

    def _subject(self, document: Document, pack: ProfilePack) -> FieldDef | None:
        paths = {path: each for fields in self.kinds.values() for path, each in fields.items()}
        found = paths.get(pack.subject)
        if found is None or found.type != "text" or not (found.entity or found.privacy == "public"):
            what = f"'{pack.subject}' names nobody" if found else f"there is no field '{pack.subject}'"
            hint = did_you_mean(str(pack.subject), paths) or "such as merchant.id or livestream.anchor"
            self.problems.append(document.problem(("subject",), what, hint))
            return None
        if (pack.profile == MERCHANT) != (pack.subject == "merchant.id"):
            what = "the profile 'merchant' is the one by merchant.id, and no other is"
            self.problems.append(document.problem(("subject",), what, "write subject: merchant.id, or another name"))
            return None
        return found

    def _events(self, document: Document, pack: ProfilePack) -> frozenset[str] | None:
        if pack.moments is None:
            return frozenset()
        named = pack.moments.events
        kinds = [str(named)] if isinstance(named, str) else [str(each) for each in named]
        before = len(self.problems)
        for at, kind in enumerate(kinds):
            loc: Loc = ("moments", "events") if isinstance(named, str) else ("moments", "events", at)
            if kind not in self.kinds:
                hint = did_you_mean(kind, self.kinds) or "one of: " + ", ".join(self.kinds)
                self.problems.append(document.problem(loc, f"there is no kind of event '{kind}'", hint))
            elif pack.subject not in self.kinds[kind] and kind != "outcome":
                self.problems.append(document.problem(loc, f"events of the kind '{kind}' have no {pack.subject}"))
        return frozenset(kinds) if len(self.problems) == before else None

    def _vocabulary(self, subject: FieldDef) -> Vocabulary:
        """What factors may name: windows by the subject, and the time. Their kinds are always said."""
        fields = {subject.path: subject, AT: next(iter(self.kinds.values()))[AT]}
        return Vocabulary(fields, self.kinds, (), lists={}, unread=self.unread)

    def _factor(self, document: Document, loc: Loc, written: FactorText, words: Vocabulary) -> Factor | None:
        by_value = written.value is not None
        if by_value == (written.when is not None) or by_value != bool(written.scale):
            what = "a factor has a condition with its points, or a value with a scale"
            hint = "write when: … and points: 20, or value: … and scale: [{from: 1%, points: 10}]"
            self.problems.append(document.problem((*loc, "id"), what, hint))
            return None
        if by_value != (written.points is None):
            what = "the points of a value stand in its scale" if by_value else "how many points does it give?"
            hint = "take 'points' out" if by_value else "add points: with a number"
            self.problems.append(document.problem((*loc, "points" if by_value else "id"), what, hint))
            return None
        source = written.value if by_value else written.when
        assert source is not None
        question = self.rules.read(source, words, NUMBER if by_value else BOOL)
        templates = [text for both in (written.because, written.improve) for text in (both.en, both.zh)]
        shown = self.rules.shown(templates, words)
        if question is None:
            return None
        if not question.windows:
            hint = "such as count(complaint last 90d by merchant.id) >= 3"
            self.problems.append(source.problem(0, "a factor looks at windows of the subject", hint))
            return None
        self.problems.extend(_scale_problems(document, loc, written))
        return Factor(
            id=str(written.id),
            question=question,
            scale=tuple((step.at_least, step.points) for step in written.scale),
            points=written.points or 0,
            group=written.group,
            counts_unknown=written.if_unknown == "counts",
            because=written.because.plain,
            improve=written.improve.plain,
            shown=shown,
        )

    def _tier_problems(self, document: Document, pack: ProfilePack) -> Iterator[Problem]:
        """Policies judge merchants by these tiers, so one of them at least has to have each."""
        if pack.profile == MERCHANT and self.tiers:
            for at, each in enumerate(pack.tiers):
                if each.tier not in self.tiers:
                    hint = did_you_mean(str(each.tier), self.tiers) or "policies have " + ", ".join(self.tiers)
                    yield document.problem(("tiers", at, "tier"), f"no policy has a tier '{each.tier}'", hint)


def ladder_of(pack: ProfilePack) -> Ladder:
    """The tiers of a pack without problems."""
    return Ladder(tuple(_rung(each) for each in pack.tiers), str(pack.start))


def _rung(written: TierText) -> Rung:
    enter = written.enter or 0
    return Rung(str(written.tier), enter, written.leave or enter, written.stay or 0, written.review)


def _ladder_problems(document: Document, pack: ProfilePack) -> Iterator[Problem]:
    """What does not fit together in the tiers."""
    names = [str(each.tier) for each in pack.tiers]
    yield from _twice(document, "tiers", "tier", names)
    if pack.start not in names:
        hint = did_you_mean(str(pack.start), names) or "one of " + ", ".join(names)
        yield document.problem(("start",), f"there is no tier '{pack.start}'", hint)
    reached = 0
    for at, each in enumerate(pack.tiers):
        loc: Loc = ("tiers", at)
        if at == 0:
            for key in ("enter", "leave"):
                if getattr(each, key) is not None:
                    yield document.problem((*loc, key), "the first tier is the best one: no points lead to it")
            continue
        if each.enter is None:
            yield document.problem((*loc, "tier"), "from how many points on is it entered?", "add enter: with points")
            continue
        if each.enter <= reached:
            what = f"the tier before it is entered at {reached} points, and a worse one needs more"
            yield document.problem((*loc, "enter"), what, "write the tiers best first, with growing points")
        if each.leave is not None and each.leave > each.enter:
            what = "it would be left with the points that lead to it"
            yield document.problem((*loc, "leave"), what, f"write at most {each.enter}")
        reached = max(reached, each.enter)
    most = _most(pack)
    if reached > most:
        yield document.problem(
            ("tiers", len(names) - 1, "enter"), f"the factors give {most} points at most, so nobody comes here"
        )


def _most(pack: ProfilePack) -> int:
    """The most points that there can be."""
    total, groups = 0, dict[str, int]()
    for factor in pack.factors:
        most = max([factor.points or 0, *(step.points for step in factor.scale)])
        if factor.group:
            groups[factor.group] = max(most, groups.get(factor.group, 0))
        else:
            total += most
    return total + sum(groups.values())


def _scale_problems(document: Document, loc: Loc, written: FactorText) -> Iterator[Problem]:
    for at in range(1, len(written.scale)):
        if written.scale[at].at_least <= written.scale[at - 1].at_least:
            yield document.problem((*loc, "scale", at, "from"), "a scale goes up", "write the smaller value first")


def _twice(document: Document, part: str, key: str, names: Sequence[str]) -> Iterator[Problem]:
    for at, name in enumerate(names):
        if name in names[:at]:
            yield document.problem((part, at, key), f"there is another '{name}'", "choose another name")
