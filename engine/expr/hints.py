"""How to mend a condition whose parts do not fit: the second half of a problem."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.errors import did_you_mean
from engine.expr.nodes import DURATION, INSTANT, MONEY, NUMBER, TEXT, Literal, Node, Type, list_of

if TYPE_CHECKING:
    from engine.schema import FieldDef


def ask(given: Type) -> str:
    """For a value where a yes/no is needed."""
    if given.element:
        return "ask for a value 'in' it, or for its size()"
    return "compare it, such as … == …, or ask 'is present'"


def meant(field: FieldDef, text: str) -> str:
    """For a text that the field never is: what it may stand for."""
    if not text:
        return "an empty value is missing: ask with 'is missing'"
    if field.choices:
        return did_you_mean(text.lower(), field.choices) or field.limit
    other = next((each for each in (text.strip(), text.strip().upper()) if each != text and field.takes(each)), "")
    return f"did you mean '{other}'?" if other else f"its values are {field.limit}"


def pattern_hint(pattern: str) -> str:
    """For a pattern that RE2 refuses."""
    if re.search(r"\(\?[=!<]", pattern):
        return "RE2 has no look-ahead or look-behind"
    if re.search(r"\\[1-9]", pattern):
        return "RE2 has no back-references"
    return ""


def mismatch(name: str, args: Sequence[Node]) -> str:
    """For arguments that no row of the function takes."""
    for value, other in ((args[0], args[-1]), (args[-1], args[0])):
        hint = _hint_between(name, value, other)
        if hint:
            return hint
    return ""


def _hint_between(name: str, value: Node, other: Node) -> str:
    written = value.value if isinstance(value, Literal) else None
    if value.type == NUMBER and other.type in (MONEY, list_of(MONEY)):
        return f"write an amount such as {value.text} CNY" if written is not None else "an amount has a currency"
    if value.type == TEXT and other.type == NUMBER and _NUMERIC.match(str(written)):
        return f"remove the quotes: {written}"
    if value.type == NUMBER and other.type == TEXT and written is not None:
        return f'this is compared with text: write "{value.text}"'
    if value.type == TEXT and other.type in (INSTANT, DURATION, MONEY) and written is not None:
        return {"instant": "write it without quotes: 2026-11-20", "duration": "write it without quotes: 10m"}.get(
            other.type.name, "write it without quotes: 20 CNY"
        )
    if value.type == NUMBER and other.type == DURATION:
        return "write a duration such as 10m"
    if value.type.element and value.type.element == other.type:
        return "to ask whether a list holds a value, write: value in list" if name != "in" else ""
    if name in ("<", "<=", ">", ">=") and value.type == TEXT:
        return "text has no order here"
    if name == "in" and value.type.element:
        return "two lists: write 'overlaps'" if other.type.element else ""
    return ""


_NUMERIC = re.compile(r"-?\d+(\.\d+)?\Z")
