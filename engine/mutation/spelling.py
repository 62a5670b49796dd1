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
        yield from (f"    - {spelt(earlier(each))}" for each in test.before)
    if test.kind:
        yield f"  kind: {test.kind}"
    yield f"  event: {spelt(test.event)}"
    yield f"  expect: {test.expect}"


def earlier(before: Before) -> dict[str, Any]:
    """An earlier event of a test as it gives it: what of it is not as it would be anyway."""
    told: dict[str, Any] = {"kind": before.kind} if before.kind else {}
    if before.repeat != 1:
        told["repeat"] = before.repeat
    # One event that says how long ago it was has no distance to another.
    if before.every != MINUTE and (before.repeat > 1 or before.ago is None):
        told["every"] = spell(before.every, DURATION)
    if before.ago is not None:
        told["ago"] = spell(before.ago, DURATION)
    return told | {"event": before.event}
