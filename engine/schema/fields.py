"""What a field is: its path, type, limits, and whose data it holds.

    text("card.bin", "Issuer number: the first 6 to 8 digits", "622848", form="digits", low=6, size=8)

Paths are dotted names. A path through a list of objects (`items.sku`) has a `list[...]` type: conditions
see all its values at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.schema.keys import plain

TYPES = (
    "text",
    "number",
    "money",
    "bool",
    "instant",
    "duration",
    "list[text]",
    "list[number]",
    "list[money]",
)
PRIVACY = ("public", "free_text", "personal", "sensitive")
SUBJECTS = ("buyer", "recipient", "seller", "referrer")
ENTITIES = (
    "account",
    "card",
    "device",
    "ip",
    "email",
    "phone",
    "address",
    "payer",
    "person",
    "payout_account",
    "company",
    "parcel",
)
"""Namespaces of linkable values. Two paths of one namespace (a buyer's and a recipient's phone) may share a value."""

MAX_LIST = 200
"""Most elements a list in an event may have."""

FORMS: Mapping[str, tuple[str, str]] = {
    "line": (r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", "one line of text"),
    "name": (r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", "one line of text; blanks around it and its width do not count"),
    "free": (r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$", "text, line breaks and tabs allowed"),
    "id": (r"^[!-~]+$", "visible ASCII without spaces"),
    "code": (r"^[A-Za-z0-9][A-Za-z0-9_.:/+-]*$", "letters, digits and _ . : / + -"),
    "country": (r"^[A-Z]{2}$", "two capital letters (ISO 3166-1)"),
    "day": (r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$", "a day such as 2027-06-30"),
    "digits": (r"^[0-9]+$", "digits"),
    "email": (r"^[^\s@\x00-\x1f\x7f-\x9f]{1,64}@[^\s@\x00-\x1f\x7f-\x9f]+$", "an e-mail address"),
    "domain": (r"^[^\s@/\x00-\x1f\x7f-\x9f]+$", "a domain name"),
    "phone": (r"^[+(]?[0-9](?:[ ().-]{0,2}[0-9]){4,14}$", "a phone number of 5 to 15 digits, not masked"),
    "ip": (r"^[0-9A-Fa-f:.]+$", "an IPv4 or IPv6 address"),
    "url": (r"^https?://[!-~]+$", "an http or https address"),
}
"""Name of a text form → (pattern in the syntax that Rust's regex and Python's re share, its meaning in words)."""


@dataclass(frozen=True, slots=True)
class Form:
    """What values a field takes, beyond its type. 0 and None mean: no such bound."""

    name: str = ""
    size: int = 0
    shortest: int = 1
    low: int | None = None
    high: int | None = None
    whole: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldDef:
    """One field of an event.

    `privacy`: only `public` may stand in the log. `subject`: whose data it is, empty for public fields. `entity`:
    the namespace, when the field identifies someone or something that can be linked. `identifier`: digits are
    expected here, the card-number scan passes it by. `derived`: Arbiter computes it from other fields. `found`: Arbiter
    finds it out itself, and no sender may give it.
    """

    path: str
    type: str
    doc: str
    example: Any = field(hash=False)
    limit: str
    privacy: str = "public"
    subject: str = ""
    entity: str = ""
    identifier: bool = False
    form: Form = Form()
    derived: bool = False
    found: bool = False

    def __post_init__(self) -> None:
        assert self.type in TYPES, self.type
        assert self.privacy in PRIVACY, self.privacy
        assert self.entity in ("", *ENTITIES), self.entity
        assert (self.privacy == "public") == (self.subject == ""), f"{self.path}: public fields have no subject"
        assert not (self.entity and self.privacy == "public"), f"{self.path}: an entity is personal"
        assert not (self.entity and self.many), f"{self.path}: a list identifies nobody"

    @property
    def many(self) -> bool:
        """Whether conditions see a list of values."""
        return self.type.startswith("list[")

    @property
    def typed(self) -> bool:
        """Whether the log may hold what somebody typed here: public text of any words."""
        form = self.form
        return self.privacy == "public" and "text" in self.type and not form.choices and form.name != "country"

    @property
    def choices(self) -> tuple[str, ...]:
        """The only values the field takes; empty when it is open."""
        return self.form.choices

    def takes(self, value: str) -> bool:
        """Whether this text can ever be a value of the field, or of one element of it."""
        form = self.form
        if form.choices:
            return value in form.choices
        if not form.name:
            return True
        if form.name == "name" and value != plain(value):
            return False
        return form.shortest <= len(value) <= form.size and re.fullmatch(FORMS[form.name][0], value) is not None

    def definition(self) -> dict[str, Any]:
        """What the schema hash covers: everything but the wording and the example."""
        form = {key: list(part) if isinstance(part, tuple) else part for key, part in asdict(self.form).items()}
        return {
            "path": self.path,
            "type": self.type,
            "privacy": self.privacy,
            "subject": self.subject,
            "entity": self.entity,
            "identifier": self.identifier,
            "derived": self.derived,
            "form": form,
            **({"found": True} if self.found else {}),
        }


def in_words(kind: str, form: Form) -> str:
    """The limits of a field in words, for people."""
    if form.choices:
        return "one of: " + ", ".join(form.choices)
    if form.name:
        words = FORMS[form.name][1]
        if form.name in ("country", "phone"):
            return words
        span = f"{form.shortest} to {form.size}" if form.shortest > 1 else f"at most {form.size}"
        return f"{words}, {span} characters"
    if form.low is not None and form.low == form.high:
        return str(form.low)
    parts = ["whole"] if form.whole else []
    if form.low is not None and form.high is not None:
        parts.append(f"{form.low} to {form.high}")
    elif form.low is not None:
        parts.append(f"{form.low} or more")
    if "money" in kind:
        parts = [*parts, MONEY_LIMIT] if parts else [_TYPE_LIMITS[kind], MONEY_LIMIT]
    if not parts and "number" in kind:
        parts.append("at most 15 digits")
    return ", ".join(parts) if parts else _TYPE_LIMITS.get(kind, "")


MONEY_LIMIT = "at most 14 digits before the point"

_TYPE_LIMITS = {
    "bool": "true or false",
    "instant": "ISO 8601 with a zone, 2000 to 2100",
    "duration": "a whole number and ms, s, m, h, d or w",
    "money": "decimal text and an ISO 4217 code",
    "list[money]": "decimal text and an ISO 4217 code",
}


def make(
    kind: str, path: str, doc: str, example: Any, form: Form, *, about: str = "", derived: bool = False
) -> FieldDef:
    """A field from its parts. `about` says whose it is: "", or "buyer personal account" (subject, class, entity).

    The word "identifier" may follow: digits are expected in the field.
    """
    words = about.split()
    identifier = "identifier" in words
    subject, privacy, entity = (*[word for word in words if word != "identifier"], "", "", "")[:3]
    limit = in_words(kind, form)
    return FieldDef(path, kind, doc, example, limit, privacy or "public", subject, entity, identifier, form, derived)


def text(
    path: str,
    doc: str,
    example: Any,
    about: str = "",
    *,
    form: str = "line",
    size: int = 64,
    shortest: int = 1,
    choices: str = "",
    many: bool = False,
    derived: bool = False,
) -> FieldDef:
    """A text field. `choices` names the only values it takes, with spaces between."""
    shape = Form("" if choices else form, size, shortest, choices=tuple(choices.split()))
    return make("list[text]" if many else "text", path, doc, example, shape, about=about, derived=derived)


def number(
    path: str,
    doc: str,
    example: Any,
    about: str = "",
    *,
    low: int | None = 0,
    high: int | None = None,
    whole: bool = False,
    many: bool = False,
) -> FieldDef:
    """A number field, exact: int or Decimal."""
    return make(
        "list[number]" if many else "number", path, doc, example, Form(low=low, high=high, whole=whole), about=about
    )


def money(path: str, doc: str, example: str, about: str = "", *, low: int | None = 0, many: bool = False) -> FieldDef:
    """An amount with its currency."""
    return make("list[money]" if many else "money", path, doc, example, Form(low=low), about=about)


def flag(path: str, doc: str, about: str = "") -> FieldDef:
    """A yes or a no."""
    return make("bool", path, doc, True, Form(), about=about)


def instant(path: str, doc: str, example: str, about: str = "", *, derived: bool = False) -> FieldDef:
    """A moment, held as UTC microseconds since 1970."""
    return make("instant", path, doc, example, Form(), about=about, derived=derived)


def duration(path: str, doc: str, example: str, about: str = "") -> FieldDef:
    """A length of time, held as microseconds."""
    return make("duration", path, doc, example, Form(), about=about)


def found_out(field: FieldDef) -> FieldDef:
    """The same field, as one that Arbiter finds out itself."""
    return replace(field, found=True)


def by_path(fields: Iterable[FieldDef]) -> dict[str, FieldDef]:
    """Fields by path, in order. A path given twice with two meanings is our mistake."""
    table: dict[str, FieldDef] = {}
    for each in fields:
        if table.setdefault(each.path, each) != each:
            raise ValueError(f"the field '{each.path}' has two meanings")
    return table
