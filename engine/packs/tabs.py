"""Tabs between the words of a pack.

YAML takes a tab for a space between words, and not at all as indentation. In an editor both look alike: a pack has
tabs only in quotes, blocks, brackets and comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_COMMENT_OR_TAB = re.compile(r"(?<!\S)#[^\r\n]*|(?P<tab>\t)")


def misplaced_tab(content: str, spans: Iterable[tuple[int, int]]) -> int | None:
    """The index of the first tab outside `spans` (start and end of each quote, block and bracket) and comments."""
    if "\t" not in content:
        return None
    at = 0
    for start, end in (*sorted(spans), (len(content), len(content))):
        for found in _COMMENT_OR_TAB.finditer(content, at, start):
            if found["tab"]:
                return found.start()
        at = max(at, end)
    return None
