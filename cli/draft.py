"""A rule that is being written: its answers, as YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from engine.errors import PackError, RequestRefused
from engine.expr import DURATION, spell
from engine.packs import parse, read
from engine.packs.layout import laid_out
from engine.rules import Before, RulePack, RuleTest

_PLAIN = re.compile(r"[A-Za-z0-9\u4e00-\u9fff][\w .%/()+<>=-]*")
"""What is text in a block and in brackets without quotes, unless it reads as a number or the like."""


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
        written = [line for test in tests for line in _test(test)]
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


def _test(test: RuleTest) -> Iterator[str]:
    yield f"      - it: {spelt(test.it)}"
    if len(test.before) == 1:
        yield f"        before: [{_before(test.before[0])}]"
    elif test.before:
        yield "        before:"
        yield from (f"          - {_before(before)}" for before in test.before)
    yield f"        event: {_flow(test.event)}"
    yield f"        expect: {test.expect}"


def _before(before: Before) -> str:
    repeat = f"repeat: {before.repeat}, " if before.repeat > 1 else ""
    return f"{{{repeat}every: {spell(before.every, DURATION)}, event: {_flow(before.event)}}}"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | Decimal) else "null" if value is None else spelt(str(value))


def spelt(text: str) -> str:
    """A text as YAML: plain where it stays what it is, else in quotes."""
    plain = _PLAIN.fullmatch(text) is not None and text == text.strip()
    if plain and isinstance(parse(f"a: [{text}]").data["a"][0], str):
        return text
    return f"'{text}'" if '"' in text and "'" not in text and "\n" not in text else quoted(text)


def quoted(text: str) -> str:
    """A text in double quotes."""
    return json.dumps(text, ensure_ascii=False)
