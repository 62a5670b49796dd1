"""Small JSON bodies of the API against a model: the model's instance, or every problem, without what was sent."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from engine.errors import EventRefused, FieldProblem

T = TypeVar("T")


def read_body(adapter: TypeAdapter[T], body: bytes) -> T:
    """What `body` says, as the adapter's type. Raises EventRefused with every problem."""
    problems: list[FieldProblem] = []
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors(include_url=False, include_input=False)]
    # Raised outside the handler: pydantic's error carries the body.
    raise EventRefused(problems)


def _problem(detail: ErrorDetails) -> FieldProblem:
    kind, message = detail["type"], detail["msg"]
    path = ".".join(map(str, detail["loc"])) or "body"
    if kind == "extra_forbidden":
        return FieldProblem("body", "unknown_field", "a field that is not known here")
    if kind == "json_invalid":
        return FieldProblem("body", "bad_json", "not JSON in UTF-8")
    return FieldProblem(
        path, "missing_field" if kind == "missing" else "wrong_type", message.replace("Input should be", "must be")
    )
