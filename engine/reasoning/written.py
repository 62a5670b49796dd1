"""Values of an event as a test in YAML writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from engine.expr import DURATION, INSTANT, Type, spell
from engine.money import Money
from engine.packs import Text, parse
from engine.policy.pack import InvariantTest
from engine.rules import Before, RuleTest

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ ./@+-]*[A-Za-z0-9_]|[A-Za-z0-9_]")


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


def earlier(before: Before) -> dict[str, Any]:
    """An earlier event of a test, as it gives it."""
    told: dict[str, Any] = {"kind": before.kind} if before.kind else {}
    if before.repeat > 1:
        told |= {"repeat": before.repeat, "every": length(before.every)}
    if before.ago is not None:
        told["ago"] = length(before.ago)
    return {**told, "event": before.event}


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
    return f"- {_mapping(values)}"


def _mapping(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{path}: {_any(value)}" for path, value in values.items()) + "}"


def _any(value: Any) -> str:
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_any(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """A value that reads back as itself."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    if _PLAIN.fullmatch(value):
        read = parse(f"x: {value}").data["x"]
        if isinstance(read, Text) and read == value:
            return str(value)
    return json.dumps(value, ensure_ascii=False)


def listed(values: Sequence[str]) -> str:
    """Texts in a row: 'a', 'a and b', 'a, b and c'."""
    *most, last = values
    return f"{', '.join(most)} and {last}" if most else last
