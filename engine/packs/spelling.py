"""Values as YAML: in brackets or behind a key, and so that they are read again as what they were."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from engine.packs.folder import FORBIDDEN, escaped

_PLAIN = re.compile(
    r"[A-Za-z\u4e00-\u9fff][\w.@%/()+<>= -]*"  # words, and what conditions are made of
    r"|[0-9]+(?:\.[0-9]+)? [A-Z]{3}|[0-9]+[smhdw]",  # an amount, a duration
)
"""Text that YAML reads as it stands, in a block and in brackets, and that cannot be taken for anything else."""
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""What some reader of YAML takes for something else than text."""


def spelt(value: Any) -> str:
    """A value as an event has it, on one line."""
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
            return "{" + ", ".join(f"{spelt(key)}: {spelt(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(spelt, value)) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    """A text: plain where it stays what it is; in single quotes where double ones stand in it."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and text == text.strip():
        return text
    if '"' in text and text.isprintable() and not any(sign in text for sign in "'\\"):
        return f"'{text}'"
    return quoted(text)


def quoted(text: str) -> str:
    """A text in double quotes; what may not stand in a pack as it is stands there as its number."""
    return FORBIDDEN.sub(lambda found: escaped(found[0]), json.dumps(text, ensure_ascii=False))
