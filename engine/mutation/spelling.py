"""An inline test as an officer writes it: YAML that can be pasted under `tests:`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.expr import DURATION, spell
from engine.packs.spelling import spelt
from engine.rules import MINUTE, Before, RuleTest


def spell_test(test: RuleTest, indent: int = 0) -> str:
    """The test as an item of a list, `indent` spaces in, without a line break at the end."""
    return "\n".join(" " * indent + line for line in _lines(test))


def _lines(test: RuleTest) -> Iterator[str]:
    yield f"- it: {spelt(test.it)}"
    if test.before:
        yield "  before:"
        yield from (f"    - {spelt(_before(each))}" for each in test.before)
    if test.kind:
        yield f"  kind: {test.kind}"
    yield f"  event: {spelt(test.event)}"
    yield f"  expect: {test.expect}"


def _before(before: Before) -> dict[str, Any]:
    """What of an earlier event is not as it would be anyway."""
    told: dict[str, Any] = {"kind": before.kind} if before.kind else {}
    if before.repeat != 1:
        told["repeat"] = before.repeat
    if before.every != MINUTE:
        told["every"] = spell(before.every, DURATION)
    if before.ago is not None:
        told["ago"] = spell(before.ago, DURATION)
    return told | {"event": before.event}
