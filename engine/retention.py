"""How long what is kept: the file `policies/retention.yaml`.

retention: shop
about: What we keep of people, and for how long.
classes:
  - id: transactions
    about: Orders, payments, parcels and what came after.
    for: [transaction, payment, fulfilment, aftersale]
    personal: 1185d                             # sealed personal data
    pseudonyms: 1185d                           # the keyed names that link events
    digests: 180d                               # what tells a retry from another body
    floor: {term: 3y, law: [cn.ecl.31]}         # an erasure waits so long: until then storage and security only
    because: {en: …, zh: …}
disputes:                                       # sealed copies of what was sent in disputes; without it, none is kept
  kept: 180d
  because: {en: …, zh: …}
reasons:                                        # sealed reasons of changes and accesses, which are about no event
  kept: 1188d
  because: {en: …, zh: …}

Terms count from the event's own time, the last two from when it was made. Without a file nothing ends by
itself, and an erasure waits for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from engine.errors import PackError, Problem, did_you_mean
from engine.packs import LAW_ID, Document, Form, Text, fit

_DAY = 86_400 * 1_000_000
_YEAR_DAYS = 366
"""A year of law is a calendar year: none is longer."""
_TERM = re.compile(r"([1-9][0-9]{0,4})([dy])", re.ASCII)
_LONGEST = 100 * _YEAR_DAYS * _DAY

PERSONAL, PSEUDONYMS, DIGESTS = "personal", "pseudonyms", "digests"
PARTS = (PERSONAL, PSEUDONYMS, DIGESTS)
"""What is kept of an event beside its leaf."""

_ID = Form(r"[a-z][a-z0-9-]*", "small letters, digits and -")


def term(value: object) -> int:
    """Microseconds from text such as '180d' or '3y'. ValueError says how to write it."""
    found = _TERM.fullmatch(value) if isinstance(value, str) else None
    length = 0 if found is None else int(found[1]) * (_YEAR_DAYS if found[2] == "y" else 1) * _DAY
    if not 0 < length <= _LONGEST:
        raise ValueError("write a term such as 180d or 3y, at most 100y")
    return length


Term = Annotated[int, BeforeValidator(term), WithJsonSchema({"type": "string", "pattern": f"^{_TERM.pattern}$"})]


LAW_TERMS: Mapping[str, int] = {"cn.ecl.31": 3 * _YEAR_DAYS * _DAY}
"""How long the articles ask for that are known here: E-Commerce Law Art. 31, three years from completion."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Floor(_Model):
    """How long the law asks for it, whoever wants it erased."""

    term: Term = Field(description="how long, from the end of the trade: 3y")
    law: list[Annotated[Text, LAW_ID]] = Field(min_length=1, description="the articles that ask for it")


class Class(_Model):
    """One class of data: the kinds of event it is of, and how long each part is kept."""

    id: Annotated[Text, _ID] = Field(description="its name")
    about: Text = Field(min_length=1, max_length=2000, description="what data it is")
    kinds: list[Text] = Field(alias="for", min_length=1, description="kinds of event; each is in one class")
    personal: Term = Field(description="sealed personal data, from the event's time")
    pseudonyms: Term = Field(description="the keyed names that link events; as long as windows look back, at least")
    digests: Term = Field(description="what tells a retry from another body under the same id")
    floor: Floor | None = Field(default=None, description="how long the law asks for it; an erasure waits so long")
    because: dict[Text, Text] = Field(min_length=1, description="why so long, by language")


class Kept(_Model):
    """How long what is about no event is kept: a sealed copy of what was sent in a dispute, a sealed reason."""

    kept: Term = Field(description="from when it was made")
    law: list[Annotated[Text, LAW_ID]] = Field(default=[], description="the articles that allow it")
    because: dict[Text, Text] = Field(min_length=1, description="why so long, by language")


class RetentionPack(_Model):
    """How long what is kept."""

    name: Text = Field(alias="retention", min_length=1, max_length=100, description="its name")
    about: Text = Field(min_length=1, max_length=2000, description="what is kept of people, and for how long")
    classes: list[Class] = Field(min_length=1, description="classes of data; each kind of event is in one")
    disputes: Kept | None = Field(default=None, description="evidence of disputes; without it no copy is kept")
    reasons: Kept | None = Field(default=None, description="reasons in free text of changes and accesses")


@dataclass(frozen=True)
class Retention:
    """What holds for each kind of event; a kind without a class is kept, and waits for nothing. And for evidence of
    disputes, of which no copy is kept where nothing is said, and reasons, which are kept then."""

    classes: Mapping[str, Class]
    disputes: Kept | None = None
    reasons: Kept | None = None

    def floor(self, kind: str, at: int) -> int | None:
        """Until when an erasure has to wait for an event of this kind and time (UTC microseconds); None: it need not.

        The term of the law begins when the trade is completed, of which an event knows nothing: so its own time counts,
        and what the class keeps beyond the floor is for the days between.
        """
        found = self.classes.get(kind)
        if found is None or found.floor is None:
            return None
        return at + min(found.personal, found.floor.term + SLACK)

    def ends(self, part: str) -> dict[str, int]:
        """Kind of event → after how many microseconds this part of it ends."""
        return {kind: int(getattr(found, part)) for kind, found in self.classes.items()}


SLACK = 90 * _DAY
"""How long a trade may take from its event to its completion; the floor waits so much longer, where data is kept so."""


def read_retention(documents: Iterable[Document], kinds: Collection[str], reach: Mapping[str, int]) -> Retention:
    """The classes of the given files, of which there may be one at most. Raises PackError with every problem.

    `kinds` are all kinds of event; `reach` says how far back windows look for events of a kind (µs).
    """
    found: dict[str, Class] = {}
    disputes = reasons = None
    problems: list[Problem] = []
    for number, document in enumerate(documents):
        fits = fit(document, RetentionPack)
        wrong = [*fits.problems]
        if number:
            wrong.append(document.problem(("retention",), "there is a second file of retention", "keep one"))
        if fits.pack is not None:
            wrong += fits.beyond(_problems(fits.document, fits.pack, kinds, reach))
            found |= {str(kind): each for each in fits.pack.classes for kind in each.kinds}
            disputes, reasons = fits.pack.disputes, fits.pack.reasons
        problems += wrong
    if problems:
        raise PackError(problems)
    return Retention(found, disputes, reasons)


def _problems(
    document: Document, pack: RetentionPack, kinds: Collection[str], reach: Mapping[str, int]
) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    ids: set[str] = set()
    for number, each in enumerate(pack.classes):
        at: tuple[Any, ...] = ("classes", number)
        if each.id in ids:
            yield document.problem((*at, "id"), f"there is another class '{each.id}'")
        ids.add(each.id)
        for place, kind in enumerate(each.kinds):
            here = (*at, "for", place)
            if kind not in kinds:
                yield document.problem(here, f"'{kind}' is no kind of event", did_you_mean(kind, kinds))
            elif kind in seen:
                yield document.problem(here, f"'{kind}' is in the class '{seen[kind]}' already", "keep it in one")
            seen.setdefault(str(kind), str(each.id))
            if each.pseudonyms < reach.get(kind, 0):
                what = f"rules look back {-(-reach[kind] // _DAY)} days at {kind} events, further than this"
                hint = "after a restart their windows would be other ones: keep pseudonyms longer, or look back less"
                yield document.problem((*at, "pseudonyms"), what, hint)
        if each.floor is not None:
            yield from _cut_short(document, at, each.floor, each.personal)
    missing = [kind for kind in kinds if kind not in seen]
    if missing:
        what = f"no class says how long these kinds of event are kept: {', '.join(missing)}"
        yield document.problem(("classes",), what, "put each into a class", key=True)


def _cut_short(document: Document, at: tuple[Any, ...], floor: Floor, personal: int) -> Iterator[Problem]:
    for article in map(str, floor.law):
        asked = LAW_TERMS.get(article, 0)
        if floor.term < asked:
            years = asked // (_YEAR_DAYS * _DAY)
            what = f"{article} asks for {years} years, this floor is shorter"
            yield document.problem((*at, "floor", "term"), what, f"write {years}y, or another article")
    if personal < floor.term:
        what = "personal data would go before the term of the law is over"
        yield document.problem((*at, "personal"), what, "keep it for the floor's term, at least")
