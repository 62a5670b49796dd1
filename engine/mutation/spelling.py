"""An inline test as an officer writes it: YAML that can be pasted under `tests:`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from engine.expr import DURATION, spell
from engine.rules import MINUTE, Before, RuleTest

_PLAIN = re.compile(r"[A-Za-z\u4e00-\u9fff][A-Za-z0-9\u4e00-\u9fff_./@+ -]*|[0-9]+(?:\.[0-9]+)? [A-Z]{3}|[0-9]+[smhdw]")
"""Text that YAML reads as it stands, and that cannot be taken for anything else."""
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def spell_test(test: RuleTest, indent: int = 0) -> str:
    """The test as an item of a list, `indent` spaces in, without a line break at the end."""
    return "\n".join(" " * indent + line for line in _lines(test))


def _lines(test: RuleTest) -> Iterator[str]:
    yield f"- it: {_value(test.it)}"
    if test.before:
        yield "  before:"
        yield from (f"    - {_value(_before(each))}" for each in test.before)
    if test.kind:
        yield f"  kind: {test.kind}"
    yield f"  event: {_value(test.event)}"
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


def _value(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal():
            return f"{value:f}"
        case Mapping():
            return "{" + ", ".join(f"{_value(key)}: {_value(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_value, value)) + "]"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and text == text.strip():
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
