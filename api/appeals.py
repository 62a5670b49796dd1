"""Appeals against verdicts: opened for a person, looked at by another person than who decided, lifted at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from api import wire
from api.desk import Needs, desk_of, read_json
from api.exchange import Json
from api.wire import Id
from engine.arbiter import STATES, Added, AppealDecided, Caller, MoreAsked, NewAppeal, Taken, Withdrawn
from engine.errors import FieldProblem, RequestRefused, did_you_mean

router = APIRouter(tags=["appeals"], generate_unique_id_function=wire.operation_id)

Reporter = Annotated[Caller, Depends(Needs(("outcome",)))]
Reader = Annotated[Caller, Depends(Needs(("outcome", "audit")))]

_READS = {200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 429)}
_WRITES = {200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 409, 413, 415, 422, 429)}


@router.get("/v1/appeals", responses=_READS)
async def list_appeals(
    request: Request,
    caller: Reader,
    state: Annotated[Id | None, Query(description="Only those in this state.")] = None,
    overdue: Annotated[bool, Query(description="Only those that nobody took up, or answered, in time.")] = False,
) -> Json:
    """The appeals of your tenant of the last 400 days, the oldest first."""
    if not set(request.query_params) <= {"state", "overdue"}:
        raise RequestRefused("A parameter is not known. Those that are: state, overdue.")
    if state is not None and state not in STATES:
        hint = "; ".join(filter(None, (did_you_mean(state, STATES), "one of " + ", ".join(STATES))))
        problem = FieldProblem("query.state", "not_a_choice", "there is no such state", hint)
        raise RequestRefused("A filter names what does not exist; see errors.", [problem])
    return Json({"items": await desk_of(request).arbiter.hearings.all(caller, state, overdue)})


@router.get("/v1/decisions/{decision_id}/appeals", responses=_READS)
async def read_appeals(request: Request, decision_id: Id, caller: Reader) -> Json:
    """The appeals against a decision with their steps. What was written is sealed: `GET /v1/decisions/{id}` shows it
    to a key with the scope reveal, for a purpose."""
    return Json({"items": await desk_of(request).arbiter.hearings.read(decision_id, caller)})


@router.post(
    "/v1/decisions/{decision_id}/appeals",
    openapi_extra=wire.asks_for(
        NewAppeal, example={"kind": "appeal", "ref": "obj-2026-0117", "reason": "The parcel went to my parents."}
    ),
    responses=_WRITES,
)
async def open_appeal(request: Request, decision_id: Id, caller: Reporter) -> Json:
    """Open an appeal for whoever the verdict is against, or ask that a person looks at it. A new, linked entry."""
    body = await read_json(request)
    return Json(await desk_of(request).arbiter.hearings.open(decision_id, body, caller))


@router.post(
    "/v1/decisions/{decision_id}/appeals/{appeal_id}",
    openapi_extra=wire.asks_for(
        *(Taken, MoreAsked, Added, Withdrawn, AppealDecided),
        example={
            "what": "decide",
            "result": "lifted",
            "en": "It was you.",
            "zh": "\u7ecf\u6838\u5b9e\u4e3a\u672c\u4eba\u64cd\u4f5c\u3002",
        },
    ),
    responses=_WRITES,
)
async def step_appeal(request: Request, decision_id: Id, appeal_id: Id, caller: Reporter) -> Json:
    """Take a step: take it up, ask for more, add to it, take it back, decide. Who decides holds the key of a person
    and had no part in the verdict. A lifting ends the verdict and what was done beside it in one entry."""
    body = await read_json(request)
    return Json(await desk_of(request).arbiter.hearings.step(decision_id, appeal_id, body, caller))


def figures(waiting: Mapping[tuple[str, str], int]) -> bytes:
    """How many appeals wait, as Prometheus reads it."""
    registry = CollectorRegistry()
    text = "Appeals that wait, by kind and state; overdue: nobody took it up, or answered it, in time."
    gauge = Gauge("arbiter_appeals", text, ["kind", "state"], registry=registry)
    for kind in ("appeal", "human_review"):
        for state in ("open", "in_review", "more_asked", "overdue"):
            gauge.labels(kind, state).set(waiting.get((kind, state), 0))
    return generate_latest(registry)
