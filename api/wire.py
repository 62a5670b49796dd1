"""The shapes on the wire, for OpenAPI and the manual page.

The engine reads and writes the bytes itself: an event is checked by `engine.schema`, which knows the own fields of an
installation too, and an answer is made once. These models describe them, and tests hold every answer against them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from api import samples
from api.desk import Needs
from api.problems import TABLE, URN
from engine.arbiter import (
    Activation,
    Added,
    AppealDecided,
    ErasureRequest,
    ImageAddress,
    IncidentClosed,
    Judgement,
    ModeOff,
    ModeOn,
    MoreAsked,
    NamedSubject,
    NewAppeal,
    NewEntry,
    NewIncident,
    NewProposal,
    NewReference,
    NoticeSent,
    Opinion,
    Rollback,
    StepTaken,
    SubjectTier,
    Taken,
    TierChange,
    Withdrawn,
)
from engine.cases import ChallengeEnded, Enforced, ReviewEnded
from engine.schema import Schema
from engine.shipped import shipped

VERSION = "1"
"""Of this API; the paths carry it. Fields may be added within a version, never changed or taken away."""


class Shape(BaseModel):
    """Anything on the wire. A reader passes over fields that it does not know."""

    model_config = ConfigDict(extra="allow")


class Message(Shape):
    """One sentence in two languages."""

    en: str = ""
    zh: str = ""


class Reason(Shape):
    """Why: one rule that fired, gravest first."""

    rule: str
    signal: str
    severity: Literal["info", "low", "medium", "high", "critical"]
    points: int
    message: Message
    law: list[str] = Field(description="Articles of law that the rule rests on.")
    articles: list[dict[str, Any]] = Field(
        default=[],
        description="Each of them as it was in force when it happened: id, number, from, verified; beside it, under "
        "decision, the version of the day of the decision where that is another one. See GET /v1/law/{id}.",
    )


class Action(Shape):
    """Something to do beside the verdict."""

    do: str
    for_s: int = Field(description="How long it holds, in seconds; 0: no end.")
    basis: str


class Unusual(Shape):
    """A feature that makes an event unusual: its value, and between what 90 % of the training data lie."""

    feature: str
    label: Message
    value: str | None = Field(description="Decimal text in `unit`; null when it is not known.")
    usual: list[str | None]
    unit: str
    share: int = Field(description="Its part in all that makes the event more unusual, in percent.")


def _shown(example: Mapping[str, Any]) -> ConfigDict:
    return ConfigDict(extra="allow", json_schema_extra={"examples": [dict(example)]})


class Decision(Shape):
    """A verdict that is durably recorded."""

    model_config = _shown(samples.DECISION)

    id: str = Field(description="The decision's own id.")
    event_id: str
    verdict: str = Field(description="One of the policy's verdicts, such as approve, challenge, review, decline.")
    score: int = Field(description="0 to the policy's cap.")
    anomaly: str | None = Field(description="How unusual the event is, 0 to 100, decimal text; null without a model.")
    unusual: list[Unusual] = Field(description="What makes it unusual, the most first; empty for the mildest verdict.")
    signals: list[str]
    actions: list[Action]
    reasons: list[Reason]
    asks: dict[str, Any] | None = Field(description="What the verdict waits for: a challenge or a review, until when.")
    degraded: list[str] = Field(description="What did not work while deciding; the policy took it into account.")
    late: bool = Field(description="The event came more than five minutes after its own time.")
    receipt: dict[str, Any] = Field(description="Signed proof that the decision is recorded; see GET /v1/keys/receipt.")


class Recorded(Shape):
    """An event that is durably recorded."""

    model_config = _shown(samples.RECORDED)

    id: str
    event_id: str


class FieldError(Shape):
    """One thing wrong: where, a stable code, what was expected. The value itself is never repeated."""

    path: str
    code: str
    what: str
    hint: str = ""


class Problem(Shape):
    """RFC 9457 problem details."""

    model_config = _shown(samples.PROBLEM)

    type: str = Field(examples=[f"{URN}event_invalid"], pattern=f"^{URN}[a-z_]+$")
    title: str
    status: int
    detail: str = ""
    errors: list[FieldError | dict[str, Any]] = []
    line: int | None = Field(None, description="In a batch: the line this is about, from 1.")
    incident: str | None = Field(None, description="For status 500: what to tell the operator.")


class DecisionPage(Shape):
    """Decisions, newest first."""

    items: list[dict[str, Any]]
    next: str | None = Field(description="Send it as `cursor` for the page after this one; null at the end.")


class Ready(Shape):
    """Whether this worker answers at full strength."""

    ready: bool
    reasons: list[str]


class ReceiptKey(Shape):
    """The public key that receipts and checkpoints are signed with."""

    log: str = Field(description="The log's name, as receipts carry it.")
    key_id: str
    ed25519: str = Field(description="The public key, hex.")
    vkey: str = Field(description="The same as C2SP signed-note writes it, for `verify.py` and witnesses.")


class Detection(Shape):
    """Something that a detector saw on an image."""

    label: str
    score: int = Field(description="In thousandths.")
    box: list[int] = Field(description="Left, top, width and height in pixels of the image.")


class ImageMatch(Shape):
    """A known image that another one looks like."""

    reference: str
    kind: Literal["counterfeit", "brand_mark", "banned"]
    label: str
    distance: int = Field(description="In how many of 256 bits the perceptual hashes differ.")


class Image(Shape):
    """What an image shows."""

    sha256: str
    size: int = Field(description="In bytes.")
    format: str
    width: int
    height: int
    broken: str = Field(description="format, truncated, too_large, timeout or crashed; empty for one that can be read.")
    comparable: bool = Field(description="It shows something that others can be compared with.")
    examined: bool = Field(description="The detector in use looked at it.")
    detector: str
    matches: list[ImageMatch]
    detections: list[Detection]


class Object(Shape):
    """An object whose fields are described in docs/api.md."""


_EXTRA = (
    *(Decision, Recorded, Problem, ChallengeEnded, ReviewEnded, Enforced, NewEntry, TierChange, ErasureRequest),
    *(NewIncident, StepTaken, IncidentClosed, Opinion, NewReference, ImageAddress),
    *(NewProposal, Judgement, Activation, Rollback, ModeOn, ModeOff, NamedSubject, SubjectTier),
    *(NewProposal, Judgement, Activation, Rollback, ModeOn, ModeOff, NoticeSent),
    *(NewAppeal, Taken, MoreAsked, Added, Withdrawn, AppealDecided),
)


def operation_id(route: APIRoute) -> str:
    """The name of the function behind a route, such as `read_decision`: clients are generated from these."""
    return route.name


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the problems a route may answer; every route may answer 500 and 503."""
    return {status: _refusal(status) for status in (*statuses, 500, 503)}


def _refusal(status: int) -> dict[str, Any]:
    codes = [code for code, (of, _) in TABLE.items() if of == status]
    content = {"application/problem+json": {"schema": ref(Problem)}}
    return {"description": " · ".join(codes), "content": content}


def ref(model: type[BaseModel]) -> dict[str, str]:
    """A reference to a model among the components."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def asks_for(*models: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAPI of a JSON request body that is one of `models`."""
    schema = ref(models[0]) if len(models) == 1 else {"oneOf": [ref(model) for model in models]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def asks_for_event() -> dict[str, Any]:
    """OpenAPI of a request body that is an event, with the sample bodies."""
    content = {"schema": {"$ref": "#/components/schemas/Event"}, "examples": examples()}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


@cache
def examples() -> dict[str, dict[str, Any]]:
    """The sample bodies of docs/examples, by name, in OpenAPI's form."""
    folder = shipped("docs/examples")
    return {file.stem: {"value": json.loads(file.read_bytes())} for file in sorted(folder.glob("*.json"))}


def event_schemas(schema: Schema) -> dict[str, dict[str, Any]]:
    """Component schemas by name: `Event`, and one for each kind, with an installation's own fields."""
    names = {kind: f"{kind.capitalize()}Event" for kind in schema.kinds}
    refs = {kind: f"#/components/schemas/{name}" for kind, name in names.items()}
    event = {
        "description": "One event. A field that its kind does not have is refused, with the path.",
        "oneOf": [{"$ref": each} for each in refs.values()],
        "discriminator": {"propertyName": "kind", "mapping": refs},
    }
    return {"Event": event} | {name: schema.outline(kind) for kind, name in names.items()}


def openapi(app: FastAPI, schema: Schema) -> dict[str, Any]:
    """The OpenAPI document: what FastAPI knows, the hot path, the key and the scopes."""
    document = get_openapi(
        title="Arbiter",
        version=VERSION,
        summary="Decides, explains and proves: one order in, one recorded verdict out.",
        routes=app.routes,
        servers=[{"url": "/", "description": "The server that this document came from."}],
    )
    _, extra = models_json_schema([(m, "serialization") for m in _EXTRA], ref_template="#/components/schemas/{model}")
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {}) | extra["$defs"] | event_schemas(schema)
    components["schemas"] = {name: schemas[name] for name in sorted(schemas) if "ValidationError" not in name}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    paths = document["paths"]
    document["paths"] = {path: hot | paths.pop(path, {}) for path, hot in _hot_paths().items()} | paths
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            _mark(document["paths"], route)
    return document


def _mark(paths: dict[str, Any], route: APIRoute) -> None:
    needs = [d.call for d in route.dependant.dependencies if isinstance(d.call, Needs)]
    for method in route.methods or ():
        operation = paths[route.path_format][method.lower()]
        refused = operation["responses"].get("422", {})
        if "application/json" in refused.get("content", {}):  # FastAPI's own, which we never answer
            del operation["responses"]["422"]
        if needs:
            operation |= _guarded(*needs[0].scopes)


def _guarded(*scopes: str) -> dict[str, Any]:
    return {"security": [{"key": []}], "x-scopes": list(scopes)}


def _hot_paths() -> dict[str, Any]:
    """The OpenAPI of the bare routes in `api.decisions`."""
    deadline = {
        "name": "Arbiter-Deadline-Ms",
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 60_000},
        "description": "How long the computation may take. Past it the policy's degraded part decides.",
    }
    return {"/v1/decisions": {"post": _decide(deadline)}, "/v1/decisions/batch": {"post": _decide_batch(deadline)}}


def _decide(deadline: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": ["decisions"],
        "operationId": "decide_event",
        "summary": "Judge one event",
        "description": "The verdict is in the ledger before you read it. The same event id gives the same verdict.",
        "parameters": [deadline],
        **asks_for_event(),
        **_guarded("score"),
        "responses": {
            "200": {"description": "The verdict.", "content": {"application/json": {"schema": ref(Decision)}}},
            **_texts(refusals(400, 401, 403, 408, 409, 413, 415, 422, 429)),
        },
    }


def _decide_batch(deadline: dict[str, Any]) -> dict[str, Any]:
    lines = {"schema": {"type": "string", "description": "One JSON object per line."}}
    sent, answered = {**lines, "example": samples.BATCH_IN}, {**lines, "example": samples.BATCH_OUT}
    return {
        "tags": ["decisions"],
        "operationId": "decide_batch",
        "summary": "Judge many events, a line each",
        "description": "One answer line per event line, in the same order: a decision, or a problem with `line`. "
        "Answers come while you send. Blank lines are passed over.",
        "parameters": [deadline],
        "requestBody": {"required": True, "content": {"application/x-ndjson": sent}},
        **_guarded("score"),
        "responses": {
            "200": {"description": "Answer lines.", "content": {"application/x-ndjson": answered}},
            **_texts(refusals(400, 401, 403, 413, 415, 429)),
        },
    }


def _texts(responses: dict[int | str, dict[str, Any]]) -> dict[str, Any]:
    return {str(status): response for status, response in responses.items()}


Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
