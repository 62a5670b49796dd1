"""What a caller reads when something is refused: one table from our errors to RFC 9457 problems.

    problem(NotFound("no decision has this id"))
    -> 404 {"type": "urn:arbiter:problem:not_found", "title": …, "status": 404, "detail": "no decision has this id"}

`type` ends with a stable code; titles and details may be reworded. Nothing a caller sent is ever repeated: `detail`
comes from our own messages, and a field's problem names its path and what was expected, not its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from engine.errors import (
    ArbiterError,
    BodyRefused,
    Conflict,
    EventRefused,
    FieldProblem,
    NotAllowed,
    NotFound,
    PackError,
    RequestRefused,
    SecondPerson,
    TooMuch,
    Unavailable,
    VaultError,
)

URN = "urn:arbiter:problem:"
MEDIA_TYPE = b"application/problem+json"

TABLE: Mapping[str, tuple[int, str]] = {
    "request_invalid": (400, "The request cannot be understood"),
    "unauthenticated": (401, "No valid key was sent"),
    "second_person": (403, "Another person must do this"),
    "scope_missing": (403, "The key does not allow this"),
    "not_found": (404, "There is nothing here"),
    "method_not_allowed": (405, "This method does not fit this address"),
    "timeout": (408, "The body did not arrive in time"),
    "conflict": (409, "This does not fit what is already recorded"),
    "too_large": (413, "The body is too large"),
    "media_type_unsupported": (415, "This content type is not read here"),
    "body_invalid": (422, "The body does not have the fields that this address takes"),
    "event_invalid": (422, "The event does not fit the schema"),
    "pack_invalid": (422, "The packs have problems; the rulebook before them stays in force"),
    "too_many_requests": (429, "Too many requests"),
    "internal": (500, "Arbiter made a mistake"),
    "keys_unavailable": (503, "The key service does not answer"),
    "unavailable": (503, "A part that must answer does not"),
    "vault": (503, "Personal data cannot be opened"),
    "verdict_unknown": (503, "The verdict may not be recorded; ask again with the same event id"),
}
"""Every code an answer can carry, with its HTTP status and title."""

_CODES: Mapping[type, str] = {
    BodyRefused: "body_invalid",
    Conflict: "conflict",
    EventRefused: "event_invalid",
    NotFound: "not_found",
    PackError: "pack_invalid",
    RequestRefused: "request_invalid",
    SecondPerson: "second_person",
    VaultError: "vault",
}

_BY_STATUS: Mapping[int, str] = {400: "request_invalid", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class MediaTypeRefused(RequestRefused):
    """A body whose content type we do not read."""


class BodyLate(RequestRefused):
    """A body that stopped arriving."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A problem ready to send."""

    code: str
    status: int
    fields: Mapping[str, Any]
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """The problem as JSON."""
        return orjson.dumps(self.fields)

    def line(self, number: int) -> bytes:
        """The problem as one line of a batch answer, with the number of the line it is about, from 1."""
        return orjson.dumps({**self.fields, "line": number})


def problem(error: ArbiterError) -> Answer | None:
    """The problem an error becomes, or None for one that no request should be able to cause."""
    code = _code(error)
    return None if code is None else answer(code, _detail(error), errors=_errors(error), headers=_headers(error))


def answer(
    code: str,
    detail: str = "",
    *,
    errors: list[dict[str, Any]] | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    **more: str,
) -> Answer:
    """A problem by its code. `detail` must be our own words."""
    status, title = TABLE[code]
    fields: dict[str, Any] = {"type": URN + code, "title": title, "status": status}
    if detail:
        fields["detail"] = detail
    if errors:
        fields["errors"] = errors
    return Answer(code, status, fields | more, headers)


def parameter(detail: Mapping[str, Any]) -> FieldProblem:
    """What pydantic found wrong in a query or a path, in the codes and words that fields of events have."""
    path, kind, context = ".".join(map(str, detail["loc"])), detail["type"], detail.get("ctx", {})
    if "what" in context:  # one of our own types said it
        return FieldProblem(path, kind, context["what"], _IN_A_URL if kind == "bad_instant" else context["hint"])
    match kind:
        case "greater_than_equal":
            return FieldProblem(path, "out_of_range", f"at least {context['ge']}")
        case "missing":
            return FieldProblem(path, "missing_field", "is required")
        case "less_than":
            return FieldProblem(path, "out_of_range", f"below {context['lt']}")
        case "less_than_equal":
            return FieldProblem(path, "out_of_range", f"at most {context['le']}")
        case "string_too_short":
            return FieldProblem(path, "too_short", f"at least {context['min_length']} characters")
        case "string_too_long":
            return FieldProblem(path, "too_long", f"at most {context['max_length']} characters")
        case "literal_error":
            return FieldProblem(path, "not_a_choice", f"must be {context['expected']}")
        case "bool_parsing":
            return FieldProblem(path, "wrong_type", "true or false is needed")
        case "string_pattern_mismatch":
            return FieldProblem(path, "bad_format", "must be without control characters")
    assert kind in ("int_parsing", "int_parsing_size"), kind
    return FieldProblem(path, "wrong_type", "a whole number is needed")


_IN_A_URL = "write 2026-11-25T00:00:00+08:00; in a URL write %2B for +"


def by_status(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    """The problem for a bare HTTP status, such as a path that no route has."""
    code = _BY_STATUS.get(status, "request_invalid")
    return answer(code, headers=tuple((k.lower().encode(), v.encode()) for k, v in (headers or {}).items()))


def incident(request: str) -> Answer:
    """The problem for our own mistake. `request` is in the log, with the place in our code."""
    return answer("internal", "The incident is logged. Asking again with the same event id is safe.", incident=request)


def _code(error: ArbiterError) -> str | None:
    match error:
        case NotAllowed():
            return "scope_missing" if error.missing else "unauthenticated"
        case TooMuch():
            return "too_many_requests" if error.retry_after else "too_large"
        case Unavailable():
            return error.reason if error.reason in TABLE else "unavailable"
        case MediaTypeRefused():
            return "media_type_unsupported"
        case BodyLate():
            return "timeout"
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), None)


def _detail(error: ArbiterError) -> str:
    match error:
        case EventRefused():
            return f"{_count(len(error.problems))} in the event; see errors."
        case BodyRefused():
            return f"{_count(len(error.problems))} in the body; see errors."
        case PackError():
            return f"{_count(len(error.problems))} in the packs; see errors."
        case NotAllowed() if error.missing:
            return f"This needs a key with the scope {error.missing}."
    return str(error)


def _count(problems: int) -> str:
    return "1 problem" if problems == 1 else f"{problems} problems"


def _errors(error: ArbiterError) -> list[dict[str, Any]] | None:
    if isinstance(error, EventRefused | BodyRefused | RequestRefused):
        return [{"path": p.path, "code": p.code, "what": p.what, "hint": p.hint} for p in error.problems]
    if isinstance(error, PackError):
        names = ("file", "line", "column", "what", "hint")
        return [{name: getattr(p, name) for name in names} for p in error.problems]
    return None


def _headers(error: ArbiterError) -> tuple[tuple[bytes, bytes], ...]:
    match error:
        case NotAllowed() if not error.missing:
            return ((b"www-authenticate", b'Bearer realm="arbiter"'),)
        case NotAllowed():
            scopes = error.missing.replace(" or ", " ")
            challenge = f'Bearer realm="arbiter", error="insufficient_scope", scope="{scopes}"'
            return ((b"www-authenticate", challenge.encode()),)
        case TooMuch() | Unavailable() if error.retry_after:
            return ((b"retry-after", str(error.retry_after).encode()),)
    return ()
