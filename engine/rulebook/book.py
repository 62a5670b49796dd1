"""A rulebook as it was read: what is asked of each kind of event, and all else that a decision needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from typing import Any

from engine.alerts import Line
from engine.checklists import Checklist
from engine.detectors import (
    ANOMALY,
    FIELD,
    Detector,
    Look,
    Models,
    Reader,
)
from engine.exemptions import Exemptions
from engine.experiments import Experiment
from engine.expr import Env, Expression, Group, Match, Matcher, Type, Vocabulary, Window
from engine.features import GAPS
from engine.jcs import canonical
from engine.law import LawTable
from engine.lists import UNAVAILABLE, ListSet
from engine.money import Money, Rates
from engine.packs.moments import day_of
from engine.playbooks import Playbook
from engine.policy import Policy, Promise, limit_name
from engine.processing import Processing
from engine.profiles import Profile
from engine.retention import Retention
from engine.rollout import Rollout, key_of
from engine.rules import Rule, message, show
from engine.schema import Schema
from engine.targets import Targets
from engine.verdict import Finding
from engine.wording import PolicyWording

LANGUAGE = 1
"""Version of the condition language; a record says under which one it was decided."""

DEGRADED = ("model_unavailable", "features_unavailable", UNAVAILABLE, "deadline")
"""What may not work while an event is judged; the policy says for each what then."""

UNKNOWN_MESSAGE = {
    "en": "It could not be told whether this holds: data that the rule needs is missing",
    "zh": "缺少规则所需的数据，无法判断此项是否成立",
}
"""The reason for a finding that an unknown condition gives."""

OWN_SIGNALS = frozenset((*GAPS, *DEGRADED, "late_event"))
"""Signals that Arbiter itself raises; a policy may use them as any other."""

Test = Callable[[dict[str, Any], Sequence[Any], Env], Any]


NONE_ROLLED: frozenset[str] = frozenset()
"""No rule of a rollout is live."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a verdict rests on: windows, those of them that are keyed by who took part, lists, and whether a model."""

    slots: frozenset[int]
    identities: frozenset[int]
    lists: frozenset[str]
    anomaly: bool


def _is_live(rule: Rule, rolled: frozenset[str]) -> bool:
    return rule.mode == "live" and (rule.rollout is None or rule.id in rolled)


@dataclass(frozen=True)
class KindBook:
    """What is asked of one kind of event: its rules as one matcher, and the policy that judges it (if any).

    `slots` are the indexes of the rulebook's windows that these rules read, `identities` those of them that are keyed
    by who or what took part; `reads` are the slots of each rule, `detector_slots` those of the anomaly features;
    `degraded_tests` the compiled `if` of each degraded cause, `degraded_ifs` the same as read; `mode_tests` the
    compiled `if` of each mode; `messages`, per rule, the values its message shows; `questions` the hash of all
    questions in the order of their bits: recorded truth values mean nothing without it.
    """

    kind: str
    rules: tuple[Rule, ...]
    matcher: Matcher
    slots: tuple[int, ...]
    identities: frozenset[int]
    lists: tuple[str, ...]
    policy: Policy | None
    degraded_tests: Mapping[str, Test]
    messages: Mapping[str, Mapping[str, tuple[Test, Type]]]
    questions: str
    detector: Detector | None
    row: Reader | None
    reads: Mapping[str, frozenset[int]]
    detector_slots: frozenset[int]
    degraded_ifs: Mapping[str, Expression]
    mode_tests: Mapping[str, Test]
    limits: Mapping[str, Test] = field(default_factory=dict)
    limit_slots: frozenset[int] = frozenset()
    law: LawTable = field(default_factory=LawTable, repr=False)
    _bases: dict[frozenset[str], Basis] = field(default_factory=dict, repr=False, compare=False)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles whose tiers its policy looks at, beside the merchant's."""
        return self.policy.terms.profiles if self.policy is not None else ()

    def over(
        self, tiers: Mapping[str, str], values: dict[str, Any], features: Sequence[Any], env: Env
    ) -> dict[str, bool | None]:
        """The answers to the limits of these tiers, by profile, under the names that records have them by."""
        if self.policy is None or not self.limits:
            return {}
        names = [limit_name(limit.id) for clause in self.policy.terms.of(tiers) for limit in clause.limits]
        return {name: self.limits[name](values, features, env) for name in names if name in self.limits}

    def look(self, models: Models, values: dict[str, Any], features: Sequence[Any], env: Env) -> Look | None:
        """What the models say of an event; None where this kind has no champion that can be used."""
        champion = models.champions.get(self.kind)
        if champion is None or self.row is None:
            return None
        row = self.row(values, features, env)
        beside = [(each.model.name, each.look(row).percentile) for each in models.challengers[self.kind]]
        return Look(row, champion.look(row), champion, tuple(beside))

    def looks(
        self, models: Models, events: Sequence[tuple[dict[str, Any], Sequence[Any], Env]]
    ) -> Sequence[Look | None]:
        """`look` for many events at once, each given as (values, features, env), in less time an event."""
        champion = models.champions.get(self.kind)
        if champion is None or self.row is None:
            return [None] * len(events)
        rows = [self.row(*event) for event in events]
        odds = champion.look_all(rows)
        beside = [
            [(each.model.name, odd.percentile) for odd in each.look_all(rows)] for each in models.challengers[self.kind]
        ]
        others = zip(*beside, strict=True) if beside else [()] * len(rows)
        return [Look(row, odd, champion, other) for row, odd, other in zip(rows, odds, others, strict=True)]

    @cached_property
    def rollouts(self) -> tuple[tuple[str, Rollout], ...]:
        """The rules that are live for a share of all keys, by id."""
        return tuple((rule.id, rule.rollout) for rule in self.rules if rule.rollout is not None)

    @property
    def everyone(self) -> frozenset[str]:
        """What `rolled` gives once each has reached all keys."""
        return frozenset(id for id, _ in self.rollouts)

    def rolled(self, keys: Mapping[str, str], values: Mapping[str, Any]) -> frozenset[str]:
        """Those of them that are live for an event with these pseudonyms by path and these values."""
        if not self.rollouts:
            return NONE_ROLLED
        drawn = ((id, rollout, key_of(rollout.by, keys, values)) for id, rollout in self.rollouts)
        return frozenset(id for id, rollout, key in drawn if rollout.holds(id, key))

    def basis(self, rolled: frozenset[str] = NONE_ROLLED) -> Basis:
        """What the verdict rests on when of the rollouts these rules are live: what shadow rules ask is not among it,
        so what they lack is nobody's loss."""
        found = self._bases.get(rolled)
        if found is None:
            live = [rule for rule in self.rules if _is_live(rule, rolled)]
            asking = (self.limit_slots, *(self.reads[rule.id] for rule in live))
            slots = frozenset(self.detector_slots.union(*asking))
            counted = self.policy is not None and self.policy.pack.score.anomaly is not None
            found = self._bases[rolled] = Basis(
                slots,
                slots & self.identities,
                frozenset(name for rule in live for name in rule.lists),
                counted or any(ANOMALY in rule.condition.paths for rule in live),
            )
        return found

    def in_modes(
        self, modes: Iterable[str], values: dict[str, Any], features: Sequence[Any], env: Env
    ) -> dict[str, bool | None]:
        """Those of some modes that change something for this kind, in the order of their names, each with the answer to
        its `if`; True where it has none."""
        if self.policy is None:
            return {}
        tests = self.mode_tests
        return {
            name: tests[name](values, features, env) if name in tests else True for name in self.policy.active(modes)
        }

    def lacks_model(self, models: Models, rolled: frozenset[str] = NONE_ROLLED) -> bool:
        """Whether a model is counted on that is not there."""
        return self.basis(rolled).anomaly and self.kind not in models.champions

    def findings(self, match: Match, rolled: frozenset[str] = NONE_ROLLED) -> tuple[Finding, ...]:
        """The findings of live rules: those that fired, and what an unknown condition gives where a rule says so.

        `rolled` are the rules of a rollout that are live for this event.
        """
        rules = self.rules
        found = [rules[index].finding for index in match.fired if _is_live(rules[index], rolled)]
        for index in match.unsure:
            finding = rules[index].when_unknown()
            if finding is not None and _is_live(rules[index], rolled):
                found.append(finding)
        return tuple(found)

    def shadowed(self, match: Match, rolled: frozenset[str] = NONE_ROLLED) -> tuple[str, ...]:
        """Ids of rules that fired in the shadow; they are recorded and change nothing."""
        return tuple(self.rules[index].id for index in match.fired if not _is_live(self.rules[index], rolled))

    def reason(self, finding: Finding, values: dict[str, Any], features: Sequence[Any], env: Env) -> dict[str, Any]:
        """The reason behind a finding, with its message in every language."""
        shown = self.messages.get(finding.rule, {})
        known = {name: (test(values, features, env), type_) for name, (test, type_) in shown.items()}
        templates = finding.because or UNKNOWN_MESSAGE
        return {
            "rule": finding.rule,
            "signal": finding.signal,
            "severity": finding.severity,
            "points": finding.points,
            "message": {
                language: message(text, {name: show(value, type_, language) for name, (value, type_) in known.items()})
                for language, text in templates.items()
            },
            "law": list(finding.cites),
            **self._articles(finding, env),
        }

    def _articles(self, finding: Finding, env: Env) -> dict[str, Any]:
        """The articles behind a finding as they were when it happened; nothing where no table of law is kept."""
        if not (self.law and finding.cites):
            return {}
        return {"articles": self.law.cited(finding.cites, day_of(env.at), day_of(env.received_at))}


@dataclass(frozen=True)
class Rulebook:
    """Everything a decision needs that people write, compiled once and never changed."""

    files: Mapping[str, bytes] = field(repr=False)
    schema: Schema
    rules: tuple[Rule, ...]
    windows: tuple[Window, ...]
    kinds: Mapping[str, KindBook]
    lists: ListSet
    rates: Rates
    exemptions: Exemptions
    detectors: tuple[Detector, ...] = ()
    retention: Retention = field(default_factory=lambda: Retention({}))
    promises: Mapping[str, tuple[Promise, ...]] = field(default_factory=dict)
    """By policy, what it promises of every event."""
    experiments: tuple[Experiment, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    """The groups of linked accounts."""
    law: LawTable = field(default_factory=LawTable)
    checklists: tuple[Checklist, ...] = ()
    targets: Targets = field(default_factory=Targets)
    """What figures are held to."""
    alerts: tuple[Line, ...] = ()
    """The alert lines."""
    processing: tuple[Processing, ...] = ()
    """Records of processing personal information."""
    playbooks: tuple[Playbook, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """By name, how somebody comes into a tier."""
    wording: Mapping[str, PolicyWording] = field(default_factory=dict)
    """By policy, what people are told about its verdicts; empty where no file says so."""

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the paths and contents of all files, hex."""
        rows = [[path, sha256(self.files[path]).hexdigest()] for path in sorted(self.files)]
        return sha256(canonical(rows)).hexdigest()

    @cached_property
    def pins(self) -> dict[str, Any]:
        """What every record made under this rulebook pins."""
        return {"rulebook": self.hash, "schema": self.schema.hash, "rates": self.rates.hash, "language": LANGUAGE}

    @cached_property
    def reads(self) -> Mapping[str, tuple[int, ...]]:
        """Event kind → indexes of the windows that its rules read, and the same for what profiles read."""
        return {kind: book.slots for kind, book in self.kinds.items()} | {
            profile.kind: tuple(map(self.windows.index, profile.windows)) for profile in self.profiles.values()
        }

    def convert(self, money: Money, currency: str, at: int) -> Money | None:
        """`money` in another currency at the rate of the day of `at` (UTC microseconds)."""
        if money.currency == currency:
            return money
        return self.rates.convert(money, currency, datetime.fromtimestamp(at // 1_000_000, UTC).date())

    def vocabulary(self, kind: str) -> Vocabulary:
        """What an expression about such an event may name, as a rule's condition may."""
        fields = dict(self.schema.fields(kind))
        if self.kinds[kind].detector is not None:
            fields[ANOMALY] = FIELD
        kinds = {each: self.schema.fields(each) for each in self.schema.kinds}
        return Vocabulary(fields, kinds, (kind,), lists=self.lists.names(), groups=self.groups)

    @property
    def judged(self) -> tuple[str, ...]:
        """The kinds of event that a policy judges."""
        return tuple(kind for kind, book in self.kinds.items() if book.policy is not None)

    @cached_property
    def policies(self) -> Mapping[str, Policy]:
        """Every policy once, by its name."""
        return {book.policy.name: book.policy for book in self.kinds.values() if book.policy is not None}

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdicts of all policies, each once."""
        return tuple(dict.fromkeys(verdict for policy in self.policies.values() for verdict in policy.verdicts))
