"""Small JSON bodies of the API against a flat model: the model's instance, or every problem, without what was sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from engine.errors import BodyRefused, FieldProblem, did_you_mean
from engine.schema import holds_card_number, holds_card_secret, identifying, identifying_problem, shown_name

T = TypeVar("T", bound=BaseModel)

BODY = "(body)"
"""The path of a problem with the body as a whole."""

_QUOTED = re.compile("'([^']*)'")


def read_body(adapter: TypeAdapter[T], body: bytes) -> T:
    """What `body` says, as the adapter's type. Raises BodyRefused with every problem; a card's secrets are some."""
    problems: list[FieldProblem] = []
    try:
        given = adapter.validate_json(body)
    except ValidationError as error:
        known = _names(adapter)
        problems = [_problem(detail, known) for detail in error.errors(include_url=False, include_input=False)]
    else:
        problems = [problem for name, value in given if isinstance(value, str) for problem in _secrets(name, value)]
        if not problems:
            return given
    # Raised outside the handler: pydantic's error carries the body.
    raise BodyRefused(problems)


@cache
def _names(adapter: TypeAdapter[Any]) -> tuple[str, ...]:
    """The fields that the model has, or its variants have."""
    schema = adapter.json_schema()
    shapes = [schema, *schema.get("$defs", {}).values()]
    return tuple(dict.fromkeys(name for shape in shapes for name in shape.get("properties", ())))


def _secrets(path: str, value: str) -> Iterator[FieldProblem]:
    if "\0" in value:
        yield FieldProblem(path, "bad_format", "must be without the character NUL")
    if holds_card_number(value):
        what, hint = "looks like a full card number", "say it without the number, or with your token of the card"
        yield FieldProblem(path, "pan_in_payload", what, hint)
    elif holds_card_secret(value):
        what = "looks like the track data of a card, or like its security code or PIN"
        yield FieldProblem(path, "secret_in_payload", what, "never send these anywhere")
    elif path == "person" and identifying(value) not in ("", "email"):
        # It stands in the record, as who decided. An e-mail address of work is how some name their staff.
        hint = "name the person as your staff directory does"
        yield replace(identifying_problem(path, identifying(value)), hint=hint)


def _problem(detail: ErrorDetails, known: Iterable[str]) -> FieldProblem:
    kind, context = detail["type"], detail.get("ctx", {})
    # The models are flat: what stands before the field is the name of a variant, which nobody wrote.
    path = shown_name(detail["loc"][-1]) if detail["loc"] else BODY
    if "what" in context:  # one of our own types said it
        return FieldProblem(path, kind, context["what"], context["hint"])
    match kind:
        case "json_invalid":
            return FieldProblem(BODY, "bad_json", "not JSON in UTF-8")
        case "model_type" | "dict_type":
            return FieldProblem(BODY, "wrong_type", "an object is needed")
        case "extra_forbidden":
            hint = did_you_mean(path, known) or "the fields are " + ", ".join(known)
            return FieldProblem(path, "unknown_field", "this field is not known here", hint)
        case "missing":
            return FieldProblem(path, "missing_field", "is required")
        case "literal_error":
            return FieldProblem(path, "not_a_choice", f"must be one of {_choices(context['expected'])}")
        case "union_tag_invalid":
            field = context["discriminator"].strip("'")
            return FieldProblem(field, "not_a_choice", f"must be one of {_choices(context['expected_tags'])}")
        case "union_tag_not_found":
            return FieldProblem(context["discriminator"].strip("'"), "missing_field", "is required")
        case "string_too_long":
            return FieldProblem(path, "too_long", f"at most {context['max_length']} characters")
        case "string_too_short" | "too_short":
            what = "characters" if kind == "string_too_short" else "of them"
            return FieldProblem(path, "too_short", f"at least {context['min_length']} {what}")
    assert kind in ("string_type", "string_unicode", "dict_type"), kind
    return FieldProblem(path, "wrong_type", "an object is needed" if kind == "dict_type" else "text is needed")


def _choices(quoted: str) -> str:
    return ", ".join(_QUOTED.findall(quoted))
