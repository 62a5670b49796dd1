"""A rule that is being written: its answers, as YAML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from engine.assembly import wall_clock
from engine.errors import PackError, RequestRefused
from engine.mutation.spelling import spell_test
from engine.packs import parse, read
from engine.packs.layout import laid_out
from engine.packs.moments import day_of
from engine.packs.spelling import quoted, spelt
from engine.rules import RulePack, RuleTest

_REVIEW = timedelta(days=182)


def in_half_a_year() -> str:
    """The day by which somebody looks at a new rule again, where nothing else is said: in half a year."""
    return (day_of(wall_clock()) + _REVIEW).isoformat()


@dataclass(frozen=True)
class Draft:
    """The answers about one rule. `about`, `kinds` and `owner` are of a new pack; empty where there is one."""

    id: str
    when: str
    signal: str
    severity: str
    points: int
    en: str
    zh: str
    review_by: str
    mode: str
    kinds: tuple[str, ...] = ()
    owner: str = ""
    about: str = ""

    def rule(self, tests: Iterable[RuleTest] = ()) -> str:
        """The rule as an item of a pack's rules."""
        lines = [
            f"  - id: {self.id}",
            f"    when: {spelt(self.when)}",
            f"    signal: {spelt(self.signal)}",
            f"    severity: {self.severity}",
            f"    points: {self.points}",
            "    because:",
            f"      en: {quoted(self.en)}",
            f"      zh: {quoted(self.zh)}",
            f"    basis: {{kind: house-policy, review_by: {self.review_by}}}",
            f"    mode: {self.mode}",
        ]
        written = [spell_test(test, indent=6) for test in tests]
        return "\n".join([*lines, *(["    tests:", *written] if written else [])]) + "\n"

    def pack(self, name: str, tests: Iterable[RuleTest] = ()) -> str:
        """A new file with this rule."""
        kinds = self.kinds[0] if len(self.kinds) == 1 else f"[{', '.join(self.kinds)}]"
        head = f"pack: {name}\nabout: {spelt(self.about)}\nfor: {kinds}\nowner: {spelt(self.owner)}\nrules:\n"
        return head + self.rule(tests)


def added(draft: Draft, file: Path, root: Path, tests: Iterable[RuleTest] = ()) -> str:
    """A pack that is there with the rule at its end. Raises PackError where it has problems already."""
    content = laid_out(read(file, root=root), RulePack)
    together = content + "\n" + draft.rule(tests)
    try:
        ids = [rule["id"] for rule in parse(together).data["rules"]]
    except (PackError, KeyError, TypeError):
        ids = []
    if ids[-1:] != [draft.id]:
        raise RequestRefused(f"{file}: a rule cannot be put behind its last one; write `rules:` last, one rule a block")
    return together


def event_of(written: str) -> dict[str, Any]:
    """The event in words such as 'amount: 5000.01 CNY, buyer.guest: true'. Raises RequestRefused."""
    hint = "write it as 'amount: 5000.01 CNY, buyer.guest: true'"
    try:
        event = parse(f"event: {{{written.strip().removeprefix('{').removesuffix('}')}}}").data["event"]
    except PackError as error:
        raise RequestRefused(f"'{written}' is no event ({error.problems[0].what}); {hint}") from None
    if None in event.values() and ":" not in written:
        raise RequestRefused(f"'{written}' is no event; {hint}")
    return dict(event)
