"""Parts of a whole as packs write them: `20%`, `12.5%`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_WRITTEN = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%", re.ASCII)


def share(value: object) -> Decimal:
    """A part of one from text such as '20%'. ValueError says how to write it."""
    match = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    found = Decimal(match[1]) / 100 if match else Decimal(0)
    if not 0 < found <= 1:
        raise ValueError("write a share above 0% and up to 100%, such as 20%")
    return found


Share = Annotated[
    Decimal, BeforeValidator(share), WithJsonSchema({"type": "string", "pattern": f"^{_WRITTEN.pattern}$"})
]
"""A part of one, written `20%`."""
