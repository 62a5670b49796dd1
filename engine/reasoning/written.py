"""Values of an event as a test in YAML writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.expr import DURATION, INSTANT, Type, spell
from engine.money import Money
from engine.mutation.spelling import earlier
from engine.packs.spelling import spelt
from engine.policy.pack import InvariantTest
from engine.rules import RuleTest


def sent(value: Any, type_: Type) -> Any:
    """A value as a test gives it: amounts, times and lengths of time as text."""
    if value is None or isinstance(value, bool):
        return value
    if type_.element is not None:
        return [sent(item, type_.element) for item in value]
    if isinstance(value, Money):
        return str(value)
    if type_ == INSTANT:
        return spell(value, type_)
    return length(value) if type_ == DURATION else value


def length(value: int) -> str:
    """A length of time in a unit of which it is a whole number."""
    text = spell(value, DURATION)
    return text if "." not in text else f"{value // 1000}ms"


def test_text(test: RuleTest) -> str:
    """A test of a rule as one line of YAML, to be put under its `tests`."""
    told = {"it": test.it, "kind": test.kind, "before": list(map(earlier, test.before))}
    return _item({key: value for key, value in told.items() if value} | {"event": test.event, "expect": test.expect})


_EVEN_SO = ("found", "anomaly")
"""What says something in a case where it is empty or zero, too."""


def case_text(case: InvariantTest) -> str:
    """A case of an invariant as one line of YAML, to be put under its `tests`."""
    told: dict[str, Any] = {"it": case.it, "kind": case.kind, "before": case.before, "event": case.event}
    told |= {"found": case.found, "tier": case.tier, "causes": case.causes, "anomaly": case.anomaly}
    told |= {"held_back": case.held_back, "queue_full": case.queue_full, "challenge_passed": case.challenge_passed}
    said = {key: value for key, value in told.items() if value or (key in _EVEN_SO and value is not None)}
    return _item({**said, "expect": case.expect})


def _item(values: Mapping[str, Any]) -> str:
    return f"- {spelt(values)}"


def listed(values: Sequence[str]) -> str:
    """Texts in a row: 'a', 'a and b', 'a, b and c'."""
    *most, last = values
    return f"{', '.join(most)} and {last}" if most else last
