"""The unified social credit code of China, 统一社会信用代码: is it one that can have been given out?

GB 32100-2015: 18 characters of 31 (digits and capitals without I, O, S, V, Z). The first is the authority that
registers (9 market regulation, 5 civil affairs …), the second the kind of body, the next six digits are the place, nine
name the organisation; the last one checks the others (ISO 7064 MOD 31-3). Whether a code was given out only the
register can tell.
"""

from __future__ import annotations

LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""The characters in the order of their values."""
LENGTH = 18
WEIGHTS = tuple(pow(3, place, len(LETTERS)) for place in range(LENGTH - 1))
"""By place, from the left, of all but the last character."""
AUTHORITIES = "123456789ANY"
"""The first characters that the standard gives out."""
BODIES = "123459"
"""The second characters that it gives out."""
PLACE = slice(2, 8)
"""The six digits of the place."""

_VALUES = {letter: value for value, letter in enumerate(LETTERS)}
_DIGITS = frozenset("0123456789")


def valid(code: str) -> bool:
    """Whether the code has the form of one, and its last character checks the others. Capitals only."""
    if len(code) != LENGTH or not _VALUES.keys() >= set(code) or not _DIGITS.issuperset(code[PLACE]):
        return False
    if code[0] not in AUTHORITIES or code[1] not in BODIES:
        return False
    total = sum(_VALUES[letter] * weight for letter, weight in zip(code, WEIGHTS, strict=False))
    return (total + _VALUES[code[-1]]) % len(LETTERS) == 0
