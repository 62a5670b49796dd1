"""What is changed in a test, in words for its sentence."""

from __future__ import annotations

from typing import Any


def said(path: str, value: Any, who: str = "") -> str:
    """What a field is; with `who` ("an earlier", "every earlier", "one more") what it was in earlier events."""
    verb = f"{who} {path} was" if who else f"{path} is"
    if value is None:
        return f"{verb} missing"
    if isinstance(value, bool):
        return f"{verb} {'true' if value else 'false'}"
    return f"{verb} {', '.join(map(str, value)) if isinstance(value, list) else value}"


def events(count: int, what: str) -> str:
    """So many events: '1 such event', '3 such events'."""
    return f"{count} {what} event{'s' if count != 1 else ''}"
