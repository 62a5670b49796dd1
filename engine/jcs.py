"""Canonical JSON (RFC 8785, JCS) for values that hold no floating-point number.

    canonical({"b": "2.50", "a": [1, True, None]})  ->  b'{"a":[1,true,null],"b":"2.50"}'

Amounts, rates and statistics travel as text: RFC 8785 numbers are IEEE doubles, which stop at 2^53
and print differently from what a person wrote. With floats refused and keys in ASCII, sorting by
code point equals the sorting by UTF-16 units that the RFC asks for, and orjson writes exactly its bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

SAFE_INTEGER = 2**53 - 1


def canonical(value: Any) -> bytes:
    """The RFC 8785 bytes of `value`: dicts with ASCII keys, lists, str, int below 2^53, bool, None.

    Raises TypeError for anything else: a float or a Decimal in a leaf is our mistake, not a user's.
    """
    _refuse_what_jcs_cannot_hold(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def canonical_trusted(value: Any, default: Callable[[Any], Any]) -> bytes:
    """The same bytes for a value known to hold no float, without looking: the check costs more than the writing.

    For records on the hot path, whose parts come from a schema without floats; tests hold them against `canonical`.
    `default` gives the JSON form of whatever else they hold. Integers beyond 2^53 still raise TypeError.
    """
    return orjson.dumps(value, default=default, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)


def _refuse_what_jcs_cannot_hold(value: Any) -> None:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise TypeError(f"a key in canonical JSON must be ASCII text, not {key!r}")
            _refuse_what_jcs_cannot_hold(item)
    elif kind is list or kind is tuple:
        for item in value:
            _refuse_what_jcs_cannot_hold(item)
    elif kind is not int or not -SAFE_INTEGER <= value <= SAFE_INTEGER:
        raise TypeError(f"canonical JSON here holds no {kind.__name__} such as {value!r}: write it as text")
