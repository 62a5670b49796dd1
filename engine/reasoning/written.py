"""Values of an event as a test in YAML writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from engine.expr import Type, spell
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
    if type_.name == "instant":
        return datetime.fromtimestamp(value // 1_000_000, UTC).replace(microsecond=value % 1_000_000).isoformat()
    return length(value) if type_.name == "duration" else value


def length(value: int) -> str:
    """A length of time in a unit of which it is a whole number."""
    text = spell(value, Type("duration"))
    return text if "." not in text else f"{value // 1000}ms"


def test_text(test: RuleTest) -> str:
    """A test of a rule as one line of YAML, to be put under its `tests`."""
    parts = [f"it: {_scalar(test.it)}"]
    if test.kind:
        parts.append(f"kind: {test.kind}")
    if test.before:
        parts.append(f"before: [{', '.join(_earlier(each) for each in test.before)}]")
    parts += [f"event: {_mapping(test.event)}", f"expect: {test.expect}"]
    return "- {" + ", ".join(parts) + "}"


def _earlier(before: Before) -> str:
    parts = [f"kind: {before.kind}"] if before.kind else []
    if before.repeat > 1:
        parts += [f"repeat: {before.repeat}", f"every: {length(before.every)}"]
    if before.ago is not None:
        parts.append(f"ago: {length(before.ago)}")
    return "{" + ", ".join([*parts, f"event: {_mapping(before.event)}"]) + "}"


def case_text(case: InvariantTest) -> str:
    """A case of an invariant as one line of YAML, to be put under its `tests`."""
    told: dict[str, Any] = {"it": case.it, "kind": case.kind, "before": case.before, "event": case.event}
    told |= {"found": case.found, "tier": case.tier, "causes": case.causes, "anomaly": case.anomaly}
    told |= {"held_back": case.held_back, "queue_full": case.queue_full, "challenge_passed": case.challenge_passed}
    said = {key: value for key, value in told.items() if value or (key == "found" and value is not None)}
    return f"- {_mapping({**said, 'expect': case.expect})}"


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
    plain = _PLAIN.fullmatch(value) is not None and parse(f"x: {value}").data == {"x": value}
    return (
        value if plain and isinstance(parse(f"x: {value}").data["x"], Text) else json.dumps(value, ensure_ascii=False)
    )


def listed(values: Sequence[str]) -> str:
    """Texts in a row: 'a', 'a and b', 'a, b and c'."""
    *most, last = values
    return f"{', '.join(most)} and {last}" if most else last
