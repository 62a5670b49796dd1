"""Units as people write them elsewhere (`24 hours`, `¥1000`, `1000 yuan`), and how a condition writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from engine.money import CURRENCIES

_TIMES = {
    "s": (1, "s sec secs second seconds 秒 秒钟"),
    "m": (60, "m min mins minute minutes 分 分钟"),
    "h": (3_600, "h hr hrs hour hours 时 小时"),
    "d": (86_400, "d day days 天 日 month months 月 个月 year years 年"),
    "w": (604_800, "w week weeks 周 星期"),
}
"""Unit of a duration → its seconds, and the words for it. Months and years are written in days."""
_DAYS = dict.fromkeys(("month", "months", "月", "个月"), 30) | dict.fromkeys(("year", "years", "年"), 365)
_UNIT = {word: unit for unit, (_, words) in _TIMES.items() for word in words.split()}

_MONEY = {"CNY": "¥ ￥ yuan rmb renminbi kuai 元 块 人民币", "USD": "$ dollar dollars", "EUR": "€ euro euros"}
_MONEY |= {"GBP": "£ pound pounds", "JPY": "yen"}
_CURRENCY = {code.lower(): code for code in CURRENCIES}
_CURRENCY |= {word: code for code, words in _MONEY.items() for word in words.split()}


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_BEFORE = _any(("¥", "￥", "$", "€", "£", "RMB", *CURRENCIES))
_BEHIND = _any(word for word in (*_UNIT, *_CURRENCY) if word not in _TIMES)
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,4}|[0-9]{1,15})(?:\.[0-9]{1,6})?"
WRITTEN = (
    rf"(?:{_BEFORE})[ \t]*{_NUMBER}(?!\w|[.,][0-9])"
    rf"|(?:{_NUMBER}(?![ \t]*(?:{_any(CURRENCIES)})\b)[ \t]*(?i:{_BEHIND})"
    rf"|{_NUMBER}[ \t]+(?i:[smhdw])|[0-9]{{1,15}}\.[0-9]{{1,6}}[smhdw])(?![\w(])"
)
"""A pattern for a number with such a unit; what a condition takes as it stands, such as `24h` or `20 CNY`, is none."""


def meant(word: str) -> str:
    """The number with its unit as a condition writes it: '24 hours' → '24h', '¥1000' → '1000 CNY'."""
    number = re.search(_NUMBER, word)
    assert number is not None, word
    unit = (word[: number.start()] + word[number.end() :]).strip().lower()
    plain = number[0].replace(",", "")
    if unit in _CURRENCY:
        return f"{plain} {_CURRENCY[unit]}"
    return _duration(Decimal(plain) * _DAYS.get(unit, 1), _UNIT[unit])


def _duration(count: Decimal, unit: str) -> str:
    """A whole number and a unit: '1.5' and 'h' are '90m'."""
    seconds = count * _TIMES[unit][0]
    smaller = [name for name, (size, _) in _TIMES.items() if size <= _TIMES[unit][0] and seconds % size == 0]
    if not smaller:
        return "a whole number of seconds, such as 30s"
    return f"{int(seconds / _TIMES[smaller[-1]][0])}{smaller[-1]}"
