"""Small JSON bodies of the API against a flat model: the model's instance, or every problem, without what was sent."""

from __future__ import annotations

import re
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from engine.errors import BodyRefused, FieldProblem
from engine.schema import holds_card_number

T = TypeVar("T", bound=BaseModel)

_SHOULD = re.compile("(Input|String) should")


def read_body(adapter: TypeAdapter[T], body: bytes) -> T:
    """What `body` says, as the adapter's type. Raises BodyRefused with every problem; a card number is one."""
    problems: list[FieldProblem] = []
    try:
        given = adapter.validate_json(body)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors(include_url=False, include_input=False)]
    else:
        problems = [_card_number(name) for name, value in given if isinstance(value, str) and holds_card_number(value)]
        if not problems:
            return given
    # Raised outside the handler: pydantic's error carries the body.
    raise BodyRefused(problems)


def _card_number(path: str) -> FieldProblem:
    what, hint = "looks like a full card number", "say it without the number, or with your token of the card"
    return FieldProblem(path, "pan_in_payload", what, hint)


def _problem(detail: ErrorDetails) -> FieldProblem:
    kind, message = detail["type"], detail["msg"]
    # The models are flat: what stands before the field is the name of a variant, which nobody wrote.
    path = str(detail["loc"][-1]) if detail["loc"] else "body"
    match kind:
        case "extra_forbidden":
            return FieldProblem("body", "unknown_field", "a field that is not known here")
        case "json_invalid":
            return FieldProblem("body", "bad_json", "not JSON in UTF-8")
        case "union_tag_invalid" | "union_tag_not_found":
            return _no_variant(detail)
        case "missing":
            return FieldProblem(path, "missing_field", "is required")
    return FieldProblem(path, "wrong_type", _SHOULD.sub("must", message))


def _no_variant(detail: ErrorDetails) -> FieldProblem:
    # pydantic's own words repeat what was sent.
    ctx = detail["ctx"]
    field = ctx["discriminator"].strip("'")
    if "expected_tags" in ctx:
        return FieldProblem(field, "wrong_type", f"must be one of {ctx['expected_tags']}")
    return FieldProblem(field, "missing_field", "is required")
