"""Runtime values as canonical JSON and back, exactly.

    encode({"amount": Money(498000, "CNY")})  ->  {"amount": {"$m": "4980.00 CNY"}}
    encode({"ratio": Decimal("0.5")})         ->  {"ratio": {"$n": "0.5"}}

Text, booleans and whole numbers stand as they are (instants and durations are whole numbers), so that a reader of
the log sees them plainly; what JSON has no exact form for is marked. No field is called `$m` or `$n`: names are
letters, digits and `_`. Whole numbers beyond 2^53 are marked too, since RFC 8785 stops there.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from engine.jcs import SAFE_INTEGER
from engine.money import CURRENCIES, Money


def encode(value: Any) -> Any:
    """A JSON-able form of a runtime value, or of a dict or list of them; `decode` gives the value back."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else {"$n": str(value)}
    if kind is dict:
        return {key: encode(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [encode(item) for item in value]
    return marked(value)


def marked(value: Any) -> dict[str, str]:
    """What `encode` makes of the one value that JSON has no form for: the `default` of a JSON writer."""
    kind = type(value)
    if kind is Money:
        return {"$m": f"{value.amount} {value.currency}"}
    if kind is Decimal:
        return {"$n": f"{value:f}"}
    raise TypeError(f"an event holds no {kind.__name__}")


def decode(value: Any) -> Any:
    """The runtime value of what `encode` made."""
    kind = type(value)
    if kind is list:
        return [decode(item) for item in value]
    if kind is not dict:
        return value
    if len(value) == 1:
        if "$m" in value:
            return _money(value["$m"])
        if "$n" in value:
            return _whole_or_decimal(Decimal(value["$n"]))
    return {key: decode(item) for key, item in value.items()}


def _money(text: str) -> Money:
    amount, currency = text.split(" ")
    return Money(_whole_or_decimal(Decimal(amount).scaleb(CURRENCIES[currency])), currency)


def _whole_or_decimal(value: Decimal) -> int | Decimal:
    return int(value) if value == value.to_integral_value() else value
