"""Money: an exact amount of one currency, and the dated rates between currencies.

    Money.of("4980.00", "CNY")  ->  Money(minor=498000, currency='CNY')

Amounts are integers of the currency's minor unit (ISO 4217). A computed amount (an average, a product)
may carry a fraction of a minor unit, at most six decimal places, rounded half-even.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

from engine.jcs import canonical

MAX_MINOR = 10**18
"""No amount reaches this many minor units; more is a mistake or an attack."""

# ISO 4217 minor units that are not two decimals.
_EXPONENTS = dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0)
_EXPONENTS |= dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3) | {"CLF": 4, "UYW": 4}
CURRENCIES: Mapping[str, int] = {
    code: _EXPONENTS.get(code, 2)
    for code in (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
        "CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD "
        "HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD "
        "LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK "
        "PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS "
        "TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG"
    ).split()
}
"""Currency code → decimal places of its minor unit."""

_SIX_PLACES = Decimal("0.000001")


class Money(NamedTuple):
    """An amount in minor units of a currency. Compare only after checking that the currencies are equal."""

    minor: int | Decimal
    currency: str

    @classmethod
    def of(cls, amount: str, currency: str) -> Money:
        """Money from decimal text. Raises ValueError for an unknown currency, bad text or too many places."""
        if currency not in CURRENCIES:
            raise ValueError("not an ISO 4217 currency code")
        try:
            minor = Decimal(amount).scaleb(CURRENCIES[currency])
        except InvalidOperation:
            raise ValueError("not a decimal amount") from None
        if not minor.is_finite() or minor != minor.to_integral_value():
            raise ValueError(f"more decimal places than {currency} has ({CURRENCIES[currency]})")
        if abs(minor) >= MAX_MINOR:
            raise ValueError("amount out of range")
        return cls(int(minor), currency)

    @classmethod
    def parse(cls, text: str) -> Money:
        """Money from text such as '4980.00 CNY'."""
        amount, space, currency = text.strip().rpartition(" ")
        if not space:
            raise ValueError("write an amount and a currency, such as '20.00 CNY'")
        return cls.of(amount.strip(), currency)

    @property
    def amount(self) -> str:
        """The amount as decimal text, with all places of the currency: '4980.00'."""
        exponent = CURRENCIES[self.currency]
        if type(self.minor) is int:
            digits = f"{abs(self.minor):0{exponent + 1}d}"
            sign = "-" if self.minor < 0 else ""
            return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else sign + digits
        whole = Decimal(self.minor).scaleb(-exponent)
        return f"{whole:.{exponent}f}" if self.minor == int(self.minor) else f"{whole.normalize():f}"

    @property
    def whole(self) -> int:
        """The amount in whole minor units, rounded half-even where it was computed."""
        return int(Decimal(self.minor).to_integral_value(ROUND_HALF_EVEN))

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"


def six_places(value: Decimal) -> Decimal:
    """`value` rounded half-even to six decimal places, the precision of every computed number."""
    return value.quantize(_SIX_PLACES, ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Rates:
    """Dated exchange rates against one base currency, kept forever and pinned by `hash` in each record.

    `table` maps a currency to its (day, units of base per unit) pairs, by day. A rate holds from its day until
    the next; before the first day, or for a currency that is not there, there is no rate.
    """

    base: str
    table: Mapping[str, Sequence[tuple[date, Decimal]]]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the whole table, hex."""
        rows = {code: [[day.isoformat(), str(rate)] for day, rate in days] for code, days in self.table.items()}
        return sha256(canonical({"base": self.base, "table": rows})).hexdigest()

    def convert(self, money: Money, currency: str, day: date) -> Money | None:
        """`money` in `currency` at the rates of `day`, to six places of a minor unit; None without a rate."""
        if money.currency == currency:
            return money
        source, target = self._rate(money.currency, day), self._rate(currency, day)
        if source is None or target is None:
            return None
        shift = CURRENCIES[currency] - CURRENCIES[money.currency]
        return Money(six_places((Decimal(money.minor) * source / target).scaleb(shift)), currency)

    def _rate(self, currency: str, day: date) -> Decimal | None:
        if currency == self.base:
            return Decimal(1)
        days = self.table.get(currency, ())
        at = bisect_right(days, day, key=lambda row: row[0])
        return days[at - 1][1] if at else None
