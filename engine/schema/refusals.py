"""Why an event is refused: every reason at once, with its path, never with what was sent.

Codes: `bad_json` `too_large` `too_deep` `duplicate_key` `wrong_kind` `wrong_tenant` `unknown_field` `missing_field`
`derived_field` `wrong_type` `too_long` `too_short` `bad_format` `not_a_choice` `bad_money` `bad_instant` `bad_duration`
`out_of_range` `too_precise` `pan_in_payload` `secret_in_payload` `personal_in_identifier` `too_many_problems`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from pydantic_core import ErrorDetails, ValidationError

from engine.errors import FieldProblem, did_you_mean
from engine.schema import cardnumbers, cardsecrets
from engine.schema.fields import FORMS, FieldDef

MOST = 50
"""Problems told of one event; more help nobody, and looking for names that are alike takes time."""

MAX_DEPTH = 16
"""Objects and lists within each other; the deepest declared field needs 4."""

BODY = "(body)"
"""The path of a problem with the event as a whole."""

_HIDDEN = "(a name that is not shown)"
_SHOWN = re.compile(r"[A-Za-z_$-][A-Za-z0-9_$-]{0,39}", re.ASCII)
_PAN = "looks like a full card number"
_PAN_HINT = "send your token in card.ref, and card.bin and card.last4"
_NEVER = "card numbers, security codes, PINs, passwords and track data must never be sent here"
_TRACK = "holds track data of a card"
_CODE = "seems to hold a security code or a PIN"


def name(key: Any) -> str:
    """A key as it may be shown: short, plain, with no more than four digits."""
    if type(key) is str and _SHOWN.fullmatch(key) and sum(map(str.isdigit, key)) <= 4:
        return key
    return _HIDDEN


def step(path: str, key: str | int) -> str:
    """`path` one step deeper: 'items' → 'items[2]' → 'items[2].price'."""
    if type(key) is int:
        return f"{path}[{key}]"
    return f"{path}.{name(key)}" if path else name(key)


def first(problems: Iterable[FieldProblem]) -> list[FieldProblem]:
    """The problems without repetitions, by path, at most `MOST`."""
    unique = sorted(set(problems), key=lambda each: (each.path, each.code))
    if len(unique) <= MOST:
        return unique
    return [
        *unique[:MOST],
        FieldProblem(BODY, "too_many_problems", f"{len(unique) - MOST} more problems are not shown"),
    ]


def forbidden(data: Any, identifiers: Collection[str]) -> Iterator[FieldProblem]:
    """Card numbers, codes and track data in values and keys; fields that announce secrets.

    In declared `identifiers` digits are expected: only track data is looked for there.
    """
    for path, bare, value, depth in _walk(data):
        if depth > MAX_DEPTH:
            yield FieldProblem(BODY, "too_deep", f"more than {MAX_DEPTH} objects within each other")
            return
        if type(value) is dict:
            yield from _forbidden_keys(path, bare, value)
        elif type(value) is str and cardsecrets.track(value):
            yield FieldProblem(path or BODY, "secret_in_payload", _TRACK, _NEVER)
        elif bare not in identifiers and _holds_number(value):
            yield FieldProblem(path or BODY, "pan_in_payload", _PAN, _PAN_HINT)
        elif bare not in identifiers and type(value) is str and cardsecrets.code(value):
            yield FieldProblem(path or BODY, "secret_in_payload", _CODE, _NEVER)


_CALLED = {
    "resident_id": "a resident identity number",
    "mobile": "a mobile phone number",
    "phone": "a phone number",
    "email": "an e-mail address",
}


def identifying(path: str, kind: str) -> FieldProblem:
    """The problem with an identifier that names a person (`personal.identifying`)."""
    what = f"looks like {_CALLED[kind]}, and identifiers stand in the log for ever"
    hint = "send a number of your own; if it is one, put a letter right before it"
    return FieldProblem(path, "personal_in_identifier", what, hint)


def suspicious(text: bytes) -> bool:
    """Whether JSON (see `cardnumbers.in_json`) may hold what is forbidden: a quick look that misses nothing."""
    return cardnumbers.in_json(text) or cardsecrets.in_json(text)


def _walk(data: Any) -> Iterator[tuple[str, str, Any, int]]:
    """(path to show, path without positions, value, depth) of everything in `data`."""
    waiting: list[tuple[str, str, Any, int]] = [("", "", data, 1)]
    while waiting:
        path, bare, value, depth = waiting.pop()
        yield path, bare, value, depth
        if type(value) is dict:
            for key, item in value.items():
                waiting.append((step(path, key), f"{bare}.{key}" if bare else str(key), item, depth + 1))
        elif type(value) is list:
            waiting += [(step(path, at), bare, item, depth + 1) for at, item in enumerate(value)]


def _forbidden_keys(path: str, bare: str, value: Mapping[str, Any]) -> Iterator[FieldProblem]:
    for key in value:
        if cardsecrets.name(str(key), bare.rpartition(".")[2]):
            yield FieldProblem(step(path, key), "secret_in_payload", "must never be sent", _NEVER)
        elif cardsecrets.track(str(key)):
            yield FieldProblem(step(path, key), "secret_in_payload", "the name of a field " + _TRACK, _NEVER)
        elif cardnumbers.found(str(key)):
            yield FieldProblem(step(path, key), "pan_in_payload", "the name of a field " + _PAN, _PAN_HINT)


def _holds_number(value: Any) -> bool:
    if value is None or type(value) is bool or type(value) is list:
        return False
    if isinstance(value, float):
        return cardnumbers.found(f"{Decimal(float.__repr__(value)):f}")
    return cardnumbers.found(str(value))


class Words:
    """Turns pydantic's errors of one kind into problems."""

    def __init__(
        self, kind: str, fields: Mapping[str, FieldDef], required: Iterable[str], elsewhere: Mapping[str, str]
    ):
        self.kind = kind
        self.fields = fields
        self.required = tuple(required)
        self.elsewhere = elsewhere
        self.names = frozenset(
            part for path in fields for part in ([path] + [path[:at] for at, c in enumerate(path) if c == "."])
        )

    def problems(self, error: ValidationError) -> Iterator[FieldProblem]:
        """Every problem of a validation, without input values."""
        for detail in error.errors(include_url=False)[: 20 * MOST]:
            yield from self._problem(detail)

    def _problem(self, detail: ErrorDetails) -> Iterator[FieldProblem]:
        path = ""
        for key in detail["loc"]:
            path = step(path, key)
        bare = ".".join(str(key) for key in detail["loc"] if type(key) is str)
        kind = detail["type"]
        if kind == "missing":
            yield from self._missing(path, bare)
        elif kind == "extra_forbidden":
            yield from self._unknown(path, bare)
        else:
            yield self._wrong(path, bare, kind, detail.get("ctx", {}), detail["input"])

    def _missing(self, path: str, bare: str) -> Iterator[FieldProblem]:
        for each in self.required:
            if each == bare or each.startswith(bare + "."):
                yield FieldProblem(path + each[len(bare) :], "missing_field", f"every {self.kind} event has it")

    def _unknown(self, path: str, bare: str) -> Iterator[FieldProblem]:
        if cardsecrets.path(bare):
            return  # told as secret_in_payload
        if bare in self.fields:
            what, hint = "Arbiter finds this out itself", "leave it out"
            yield FieldProblem(path, "derived_field", what, hint)
            return
        where = self.elsewhere.get(bare)
        if where:
            hint = f"not in {self.kind} events, but in {where}"
        else:
            hint = did_you_mean(bare, self.names) if len(bare) <= 80 else ""
        more = "own fields are declared in policies/schema.yaml"
        yield FieldProblem(path, "unknown_field", "this field is not declared", f"{hint}; {more}" if hint else more)

    def _wrong(self, path: str, bare: str, kind: str, context: Mapping[str, Any], sent: Any) -> FieldProblem:
        each = self.fields.get(bare)
        if kind in _LENGTHS and each and re.fullmatch(FORMS[each.form.name][0], sent) is None:
            # Of two mistakes the form is the greater: its words also say how long the text may be.
            return FieldProblem(path, "bad_format", f"must be {each.limit}")
        if "what" in context:
            return FieldProblem(path or BODY, kind, context["what"], context["hint"])
        if kind == "literal_error":
            return self._choice(path, each)
        if kind == "string_pattern_mismatch":
            meaning = FORMS[each.form.name][1] if each else "visible ASCII without spaces"
            return FieldProblem(path, "bad_format", f"must be {meaning}")
        if kind in _BOUNDS:
            code, what = _BOUNDS[kind]
            return FieldProblem(path, code, what.format(**context))
        needed = _NEEDED.get(kind)
        assert needed is not None, kind
        return FieldProblem(path or BODY, "wrong_type", needed)

    def _choice(self, path: str, each: FieldDef | None) -> FieldProblem:
        choices = each.choices if each else ("1",)
        return FieldProblem(path, "not_a_choice", "must be one of " + ", ".join(choices))


_LENGTHS = ("string_too_long", "string_too_short")
_BOUNDS = {
    "string_too_long": ("too_long", "at most {max_length} characters"),
    "string_too_short": ("too_short", "at least {min_length} characters"),
    "too_long": ("too_long", "at most {max_length} elements"),
}
_NEEDED = {
    "string_type": "text is needed",
    "string_sub_type": "text is needed",
    "string_unicode": "text is needed that is valid Unicode",
    "bool_type": "true or false is needed",
    "dict_type": "an object is needed",
    "list_type": "a list is needed",
}
