"""The schema: JSON bytes in, one checked event out, or every reason why not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NoReturn
from weakref import WeakValueDictionary

import orjson
from pydantic_core import SchemaValidator, ValidationError

from engine.errors import EventRefused, FieldProblem, did_you_mean, with_article
from engine.jcs import canonical
from engine.schema import keys, nesting, outline, parts, personal, refusals, shapes, values
from engine.schema.authorisation import chain
from engine.schema.fields import FieldDef, by_path
from engine.schema.kinds import ALWAYS, ENVELOPE, KINDS, LISTS
from engine.schema.own import OwnField, SchemaPack, faults
from engine.schema.parts import Keys, Plan, Private

MAX_BODY = 256 * 1024
"""Most bytes of one event's JSON."""

_BLANKS = b" \t\r\n"
_DIGIT_RUNS = bytes(0x30 if code in b"0123456789." else 0x78 for code in range(256))
_LONG_RUN = b"0" * 17
_BEFORE_NUMBER = b":,[- \t\r\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One event as the engine works with it. `tenant` is empty when the sender left it to the API key.

    `at` and `received_at` are UTC microseconds; `values` holds the fields, nested, with `kind`, `event_id`,
    `order_id` and `at`, never with None. `body` is the JSON it was parsed from, with sorted keys and without blanks:
    the same for the same content. It holds personal data and is never kept.
    """

    kind: str
    tenant: str
    id: str
    order: str | None
    at: int
    received_at: int
    values: dict[str, Any]
    body: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Kind:
    """All that is prepared for one kind. `fields` is what its body may hold, `judged` what an event of it may have when
    it is judged: what Arbiter finds out itself as well."""

    name: str
    about: str
    fields: Mapping[str, FieldDef]
    judged: Mapping[str, FieldDef]
    required: tuple[str, ...]
    plan: Plan
    wire: SchemaValidator
    runtime: SchemaValidator
    identifiers: frozenset[str]
    words: refusals.Words


class Schema:
    """All kinds and fields, built once; safe for many threads. `hash` names the definitions."""

    def __init__(self, own: Mapping[str, OwnField]) -> None:
        tables = {name: _table(name, own) for name in KINDS}
        everything: dict[str, FieldDef] = {}
        for table in tables.values():
            for path, each in table.items():
                everything.setdefault(path, each)
        self.kinds = tuple(KINDS)
        self._kinds = {name: _kind(name, table, tables) for name, table in tables.items()}
        self._fields = {name: MappingProxyType(table) for name, table in tables.items()}
        # An outcome takes over the fields of the event it refers to, so conditions on outcomes may use them all.
        self._fields["outcome"] = MappingProxyType(tables["outcome"] | everything)
        self._whole = {name: parts.plan(self._fields[name].values(), LISTS) for name in KINDS}
        self.hash = _hash(self._kinds)

    def fields(self, kind: str) -> Mapping[str, FieldDef]:
        """Path → field that conditions over events of this kind may use, envelope included."""
        return self._fields[kind]

    def body_fields(self, kind: str) -> Mapping[str, FieldDef]:
        """Path → field that the body of this kind may hold: the same, but for outcomes only their own, and without what
        Arbiter finds out itself."""
        return self._kinds[kind].fields

    def judged_fields(self, kind: str) -> Mapping[str, FieldDef]:
        """The same with what Arbiter finds out itself: what `build` takes, for tests say what was found."""
        return self._kinds[kind].judged

    def required(self, kind: str) -> tuple[str, ...]:
        """Paths that an event of this kind must have, beside its `kind`."""
        return self._kinds[kind].required

    def parse(self, body: bytes, *, received_at: int, kind: str | None = None, tenant: str = "") -> Event:
        """The event in JSON bytes. `kind` and `tenant` are what the caller knows already; a body that says otherwise
        is refused, one that says nothing takes them over. Raises EventRefused with every problem.
        """
        data, text = _json(body)
        chosen = self._kind_of(data, kind)
        if _keys(body.translate(None, _BLANKS)) != _keys(text) or _has_long_number(body):
            problems = _lost(body)
            if problems:
                self._refuse(data, chosen, chosen.wire, problems)
        if refusals.suspicious(text) and any(refusals.forbidden(data, chosen.identifiers)):
            self._refuse(data, chosen, chosen.wire)
        if b":null" in text or b':""' in text:
            data = nesting.without_blanks(data)
        return self._event(data, chosen, chosen.wire, received_at, tenant, text)

    def build(self, data: Mapping[str, Any], *, received_at: int, kind: str | None = None, tenant: str = "") -> Event:
        """The event in Python data, with the same checks: nested or dotted keys, values as on the wire or as the
        engine holds them (Money, int microseconds, Decimal). `items.sku: [a, b]` stands for two items.
        """
        nested, problems = nesting.nested(data, LISTS)
        chosen = self._kind_of(nested, kind)
        if problems or _may_be_forbidden(nested):
            problems += refusals.forbidden(nested, chosen.identifiers)
        if problems:
            self._refuse(nested, chosen, chosen.runtime, problems)
        return self._event(nested, chosen, chosen.runtime, received_at, tenant)

    def sample(self, kind: str) -> dict[str, Any]:
        """The smallest body of this kind that parses, made from the examples of the fields that must be there."""
        return nesting.nested(self.sample_fields(kind), LISTS)[0]

    def sample_fields(self, kind: str) -> dict[str, Any]:
        """The same by path: any of them can be put in place of another, and `build` takes it."""
        chosen = self._kinds[kind]
        head = {"format": shapes.FORMAT, "kind": kind}
        return head | {path: chosen.fields[path].example for path in chosen.required}

    def outline(self, kind: str) -> dict[str, Any]:
        """The body of this kind as JSON Schema (2020-12), for OpenAPI."""
        chosen = self._kinds[kind]
        return outline.outline(kind, chosen.about, chosen.plan, chosen.required)

    def split(self, event: Event) -> tuple[dict[str, Any], Private, Keys]:
        """(public values, subject → path → value, (path, namespace, normal form) of each entity). See `parts`."""
        return parts.split(event.values, self._whole[event.kind])

    def join(self, kind: str, public: Mapping[str, Any], private: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The values that `split` took apart; those of an erased subject are missing."""
        return parts.join(public, private, self._whole[kind])

    def _kind_of(self, data: Any, expected: str | None) -> Kind:
        if type(data) is not dict:
            raise EventRefused([FieldProblem(refusals.BODY, "wrong_type", "an event is one JSON object")])
        said = data.get("kind") or expected
        chosen = self._kinds.get(said) if isinstance(said, str) else None
        if chosen is not None and expected in (None, said):
            return chosen
        # Without its kind an event cannot be checked, but card numbers and secrets can be told.
        identifiers = frozenset().union(*(each.identifiers for each in self._kinds.values()))
        raise EventRefused(refusals.first([_wrong_kind(said, expected), *refusals.forbidden(data, identifiers)]))

    def _event(
        self, data: Any, chosen: Kind, validator: SchemaValidator, received_at: int, tenant: str, body: bytes = b""
    ) -> Event:
        data.setdefault("kind", chosen.name)
        try:
            found = validator.validate_python(data)
        except ValidationError:
            found = None
        if found is None:
            # Outside the handler: pydantic's error holds what was sent, and must not become the cause of ours.
            self._refuse(data, chosen, validator)
        problems = [*_derive(found), *_tenant(found, tenant)]
        if personal.may_identify(parts.texts(found, chosen.plan.id_places)):
            problems += _named(found, chosen.plan)
        if problems:
            raise EventRefused(refusals.first(problems))
        found.pop("format", None)
        said = found.pop("tenant", tenant)
        order = found.get("order_id")
        return Event(chosen.name, said, found["event_id"], order, found["at"], received_at, found, body)

    def _refuse(
        self, data: Any, chosen: Kind, validator: SchemaValidator, problems: Iterable[FieldProblem] = ()
    ) -> NoReturn:
        found = [*problems, *refusals.forbidden(data, chosen.identifiers), *_named(data, chosen.plan)]
        try:
            validator.validate_python(nesting.without_blanks(data) | {"kind": chosen.name})
        except ValidationError as error:
            found += chosen.words.problems(error)
        raise EventRefused(refusals.first(found))


def _table(kind: str, own: Mapping[str, OwnField]) -> dict[str, FieldDef]:
    more = (each.field(path) for path, each in own.items() if kind in each.kinds)
    return by_path((*ENVELOPE, *KINDS[kind][1], *more))


def _kind(name: str, table: dict[str, FieldDef], tables: Mapping[str, Mapping[str, FieldDef]]) -> Kind:
    about, _, needed = KINDS[name]
    required = (*ALWAYS, *needed)
    sent = {path: each for path, each in table.items() if not each.found}
    plan, whole = parts.plan(sent.values(), LISTS), parts.plan(table.values(), LISTS)
    elsewhere = {
        path: ", ".join(kind for kind, other in tables.items() if path in other)
        for other in tables.values()
        for path in other
        if path not in table
    }
    return Kind(
        name,
        about,
        MappingProxyType(sent),
        MappingProxyType(table),
        required,
        plan,
        shapes.validator(plan, frozenset(required), runtime=False),
        shapes.validator(whole, frozenset(required), runtime=True),
        frozenset(path for path, each in table.items() if each.identifier),
        refusals.Words(name, table, required, elsewhere),
    )


def _hash(kinds: Mapping[str, Kind]) -> str:
    """SHA-256 over every definition, hex."""
    definitions = {
        name: {"fields": [each.definition() for each in kind.judged.values()], "required": list(kind.required)}
        for name, kind in kinds.items()
    }
    return sha256(canonical({"format": shapes.FORMAT, "lists": sorted(LISTS), "kinds": definitions})).hexdigest()


def _wrong_kind(said: Any, expected: str | None) -> FieldProblem:
    if said is None:
        return FieldProblem("kind", "missing_field", "every event names its kind", "one of " + ", ".join(KINDS))
    if expected is not None and isinstance(said, str) and said in KINDS:
        return FieldProblem("kind", "wrong_kind", f"{with_article(expected)} event is expected here")
    near = did_you_mean(said, KINDS) if isinstance(said, str) and refusals.name(said) == said else ""
    return FieldProblem("kind", "wrong_kind", "there is no such kind of event", near or "one of " + ", ".join(KINDS))


def _json(body: bytes) -> tuple[Any, bytes]:
    """(the data, the same as compact JSON without escapes)."""
    if len(body) > MAX_BODY:
        raise EventRefused([FieldProblem(refusals.BODY, "too_large", f"at most {MAX_BODY} bytes")])
    try:
        data = orjson.loads(body)
        return data, orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError as error:
        problem = FieldProblem(
            refusals.BODY, "bad_json", f"not JSON in UTF-8: line {error.lineno}, column {error.colno}"
        )
    except orjson.JSONEncodeError:
        problem = FieldProblem(refusals.BODY, "too_deep", f"more than {refusals.MAX_DEPTH} objects within each other")
    # Raised outside the handler: the decoder's error carries the whole document.
    raise EventRefused([problem])


def _keys(text: bytes) -> int:
    """How many keys the JSON without blanks has: a quote before a colon that is not escaped ends a key.

    A key that ends in a backslash is not counted; no declared field does.
    """
    return text.count(b'":') - (text.count(b'\\":') if b"\\" in text else 0)


def _may_be_forbidden(data: dict[str, Any]) -> bool:
    if type(data.get("at")) is int and data["at"] // 10**15 == 1:
        # A time from 2001 to 2033 in microseconds. It is long enough to be looked at closely, and in every event, but
        # no card number: none has 16 digits and begins with 1.
        data = {**data, "at": None}
    try:
        return refusals.suspicious(orjson.dumps(data, default=str))
    except orjson.JSONEncodeError:
        return True  # lone surrogates, odd keys, too deep: the slow look, then the validator, find out


def _has_long_number(body: bytes) -> bool:
    """Whether a number may be longer than a double carries: 17 digits and dots in a row that no quote precedes."""
    runs = body.translate(_DIGIT_RUNS)
    at = runs.find(_LONG_RUN)
    while at >= 0:
        if body[at - 1] in _BEFORE_NUMBER:
            return True
        at = runs.find(_LONG_RUN, runs.find(b"x", at))
    return False


def _lost(body: bytes) -> list[FieldProblem]:
    """What the fast reader loses without a word: the first of two equal keys, and digits that no double holds.

    JSON readers differ in which of two keys counts, and that is a way around checks.
    """
    lost: list[FieldProblem] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                lost.append(FieldProblem(refusals.name(key), "duplicate_key", "given twice in one object"))
            found[key] = value
        return found

    def number(text: str) -> None:
        digits = text.lower().partition("e")[0].replace(".", "").lstrip("-0").rstrip("0")
        if len(digits) > values.DIGITS:
            lost.append(FieldProblem(refusals.BODY, "too_precise", f"a number has more than {values.DIGITS} digits"))

    json.loads(body, object_pairs_hook=members, parse_float=number, parse_int=number)
    return lost


def _derive(event: dict[str, Any]) -> Iterator[FieldProblem]:
    """Adds the derived fields; one that was sent although Arbiter can derive it is refused, not overwritten."""
    buyer = event.get("buyer")
    if buyer is not None and "email" in buyer:
        if "email_domain" in buyer:
            yield _derived("buyer.email_domain", "buyer.email")
        buyer["email_domain"] = keys.domain(buyer["email"])
    for name in ("shipping", "billing"):
        place = event.get(name)
        if place is not None and "street" in place:
            if "address" in place:
                yield _derived(f"{name}.address", f"{name}.street")
            place["address"] = keys.whole_address(place)
    merchant = event.get("merchant")
    if merchant is not None and "authorisations" in merchant:
        yield from _authorised(merchant, event["at"])


def _authorised(merchant: dict[str, Any], at: int) -> Iterator[FieldProblem]:
    """Adds how the papers of a merchant stand on the day of the event."""
    for name in ("authorisation", "authorised_until"):
        if name in merchant:
            yield _derived(f"merchant.{name}", "merchant.authorisations")
    if papers := merchant["authorisations"]:
        found = chain(papers, merchant.get("id"), at)
        merchant["authorisation"] = found.state
        if found.until is not None:
            merchant["authorised_until"] = found.until


def _derived(path: str, source: str) -> FieldProblem:
    return FieldProblem(path, "derived_field", f"Arbiter derives it from {source}", "send one of the two, not both")


def _named(event: Mapping[str, Any], plan: Plan) -> Iterator[FieldProblem]:
    """Public identifiers that name a person. They stand in the log for ever, and cannot be masked: they link events."""
    for path, text in parts.identifiers(event, plan):
        kind = personal.identifying(text)
        if kind:
            yield refusals.identifying(path, kind)


def _tenant(event: Mapping[str, Any], tenant: str) -> Iterator[FieldProblem]:
    if tenant and event.get("tenant", tenant) != tenant:
        yield FieldProblem("tenant", "wrong_tenant", "the API key belongs to another tenant")


@cache
def _built_in() -> Schema:
    return Schema({})


def schema(own: SchemaPack | Mapping[str, OwnField] | None = None) -> Schema:
    """The built-in schema, with the own fields of `policies/schema.yaml` if there are any.

    Raises ValueError for fields that have faults: who reads a file asks for those before.
    """
    fields = own.fields if isinstance(own, SchemaPack) else own
    if not fields:
        return _built_in()
    wrong = faults(fields)
    if wrong:
        raise ValueError("; ".join(f"{each.path}: {each.what}" for each in wrong))
    declared = tuple((path, each.model_dump_json()) for path, each in fields.items())
    held = _held.get(declared)
    if held is None:
        held = _held[declared] = Schema(fields)
    return held


_held: WeakValueDictionary[tuple[tuple[str, str], ...], Schema] = WeakValueDictionary()
"""Schemas that some rulebook still holds, by their own fields: a reload seldom brings others."""
