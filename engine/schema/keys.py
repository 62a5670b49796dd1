"""Normal forms: two spellings of one value become one key, so that windows and lists see one person, not two."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from unicodedata import normalize

_NOT_DIGIT = re.compile(r"[^0-9]+")
_NOT_WORD = re.compile(r"[^\w|]+|_+")

ADDRESS_PARTS = ("country", "region", "city", "district", "street")
"""Parts of an address in its normal form. The postcode is left out: many senders do not ask for it."""


def plain(value: str) -> str:
    """NFKC without blanks at the ends; case kept, since ids differ by case."""
    return (value if value.isascii() else normalize("NFKC", value)).strip()


def email(value: str) -> str:
    """In lower case. Dots and +tags stay: whether they matter is known to the mail host alone."""
    return plain(value).lower()


def phone(value: str) -> str:
    """E.164 with +86 when no country code is given: '0571-8888 8888' → '+8657188888888'."""
    given = plain(value)
    digits = _NOT_DIGIT.sub("", given)
    if given.startswith("+"):
        return "+" + digits
    if digits.startswith("00"):
        return "+" + digits[2:]
    if len(digits) == 13 and digits.startswith("861"):
        return "+" + digits
    return "+86" + digits.lstrip("0")


IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}", re.ASCII)
"""An IPv4 address, canonical as it stands. Most need no more than this look, a tenth of what reading one costs."""


def ip(value: str) -> str:
    """The canonical text; an IPv4 address mapped into IPv6 becomes IPv4."""
    if IPV4.fullmatch(value):
        return value
    address = ip_address(value)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def address(value: str) -> str:
    """NFKC in one case, letters and digits only; '|' between parts stays."""
    return _NOT_WORD.sub("", (value if value.isascii() else normalize("NFKC", value)).casefold())


def company(value: str) -> str:
    """A register number in capitals."""
    return plain(value).upper()


_NORMAL: Mapping[str, Callable[[str], str]] = {
    "email": email,
    "phone": phone,
    "ip": ip,
    "address": address,
    "company": company,
}


def normal(namespace: str, value: str) -> str:
    """The normal form of an entity's value; empty when nothing is left that could link."""
    return _NORMAL.get(namespace, plain)(value)


def whole_address(parts: Mapping[str, str]) -> str | None:
    """The normal form of an address; None without a street, for a city is not an address."""
    if "street" not in parts:
        return None
    return address("|".join(parts[name] for name in ADDRESS_PARTS if name in parts))


def domain(mail: str) -> str:
    """The domain of an e-mail address, in lower case, without a dot at the end."""
    return plain(mail).rpartition("@")[2].lower().rstrip(".")
