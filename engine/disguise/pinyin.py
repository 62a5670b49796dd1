"""Han spelt in Latin letters: zui佳, zuijia. Tones are gone by the table of characters: zuì is read as zui.

A character has one spelling here, its most usual one (anyascii); 长 is chang and never zhang.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

import re2
from anyascii import anyascii

MOST_FREE = 4
"""Up to so many Han, any of them may be spelt; of more, all or one."""
MOST_SPELT = 8
"""Phrases with more Han than this are not looked for in Latin letters."""

_SYLLABLE = (
    "a|ai|an|ang|ao|e|ei|en|eng|er|o|ou|"
    "[bpm](?:a|ai|an|ang|ao|ei|en|eng|i|ian|iao|ie|in|ing|o|u)|m(?:e|iu|ou)|pou|"
    "f(?:a|an|ang|ei|en|eng|o|ou|u)|"
    "[dt](?:a|ai|an|ang|ao|e|ei|eng|i|ian|iao|ie|ing|ong|ou|u|uan|ui|un|uo)|d(?:en|ia|iu)|"
    "[nl](?:a|ai|an|ang|ao|e|ei|eng|i|ian|iang|iao|ie|in|ing|iu|ong|ou|u|uan|ue|uo|v|ve)|nen|l(?:ia|o|un)|"
    "[gkh](?:a|ai|an|ang|ao|e|ei|en|eng|ong|ou|u|ua|uai|uan|uang|ui|un|uo)|"
    "[jqx](?:i|ia|ian|iang|iao|ie|in|ing|iong|iu|u|uan|ue|un)|"
    "(?:zh|ch|sh|z|c|s)(?:a|ai|an|ang|ao|e|en|eng|i|ou|u|uan|ui|un|uo)|(?:zh|ch|z|c|s)ong|z(?:ei|hei)|shei|"
    "(?:zh|ch|sh)(?:ua|uai|uang)|"
    "r(?:an|ang|ao|e|en|eng|i|ong|ou|u|uan|ui|un|uo)|"
    "y(?:a|an|ang|ao|e|i|in|ing|o|ong|ou|u|uan|ue|un)|w(?:a|ai|an|ang|ei|en|eng|o|u)"
)
_PINYIN = re2.compile(f"(?:{_SYLLABLE})*")
"""RE2, as there are many ways to part some words, which another engine might try one by one."""


def is_pinyin(letters: str) -> bool:
    """Whether small Latin letters can be read as whole syllables; of none they can."""
    return _PINYIN.fullmatch(letters) is not None


def spellings(phrase: str) -> Iterator[str]:
    """The ways to write some or all Han of a phrase, as it is read, in Latin letters. None for one Han alone."""
    spelt = {at: latin for at, letter in enumerate(phrase) if (latin := _latin(letter))}
    if not 2 <= len(spelt) <= MOST_SPELT:
        return
    sizes = range(1, len(spelt) + 1) if len(spelt) <= MOST_FREE else (1, len(spelt))
    for size in sizes:
        for chosen in combinations(spelt, size):
            # A syllable of one letter says nothing: who writes 额外 as e外?
            if size < len(spelt) and any(len(spelt[at]) < 2 for at in chosen):
                continue
            yield "".join(spelt[at] if at in chosen else letter for at, letter in enumerate(phrase))


@lru_cache(maxsize=8192)
def _latin(letter: str) -> str:
    """The spelling of a Han character; '' of everything else."""
    if not ("一" <= letter <= "鿿" or "㐀" <= letter <= "䶿"):
        return ""
    found = anyascii(letter).lower()
    return found if found.isascii() and found.isalpha() else ""
