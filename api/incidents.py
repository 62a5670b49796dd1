"""When something is going on: modes that are switched on for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from api import wire
from api.desk import Needs, desk_of, read_json
from api.exchange import Json
from api.wire import Id
from engine.arbiter import Caller, ModeOff, ModeOn

router = APIRouter(generate_unique_id_function=wire.operation_id)

Watcher = Annotated[Caller, Depends(Needs(("deploy", "rules", "audit")))]
Deployer = Annotated[Caller, Depends(Needs(("deploy",)))]

_READS = {200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 429)}
_WRITES = {200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 409, 413, 415, 422, 429)}


@router.get("/v1/modes", tags=["modes"], responses=_READS)
async def read_modes(request: Request, caller: Watcher) -> Json:
    """The modes of the rulebook in force, what each does, and which are on for your tenant, until when and why."""
    return Json(await desk_of(request).arbiter.modes.shown(caller))


@router.post(
    "/v1/modes/{mode}",
    tags=["modes"],
    openapi_extra=wire.asks_for(ModeOn, example={"for": "2h", "reason": "Cards are being tested."}),
    responses=_WRITES,
)
async def switch_mode(request: Request, mode: Id, caller: Deployer) -> Json:
    """Switch a mode on for your tenant, in all workers at once, or on for longer. It ends by itself."""
    return Json(await desk_of(request).arbiter.modes.switch(mode, await read_json(request), caller))


@router.post(
    "/v1/modes/{mode}/end",
    tags=["modes"],
    openapi_extra=wire.asks_for(ModeOff, example={"reason": "No attempt for an hour."}),
    responses=_WRITES,
)
async def end_mode(request: Request, mode: Id, caller: Deployer) -> Json:
    """End a mode before its time. Only a person does that."""
    return Json(await desk_of(request).arbiter.modes.end(mode, await read_json(request), caller))


def figures(modes: Mapping[tuple[str, str], float]) -> bytes:
    """Which modes are on, as Prometheus reads it."""
    registry = CollectorRegistry()
    text = "Seconds for which a mode is still on; a mode that is not on is not there."
    gauge = Gauge("arbiter_mode_seconds_left", text, ["tenant", "mode"], registry=registry)
    for labels, seconds in sorted(modes.items()):
        gauge.labels(*labels).set(seconds)
    return generate_latest(registry)
