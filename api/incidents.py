"""When something is going on: modes that are switched on for a while, playbooks, incidents, and public opinion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from api import wire
from api.desk import Needs, desk_of, read_json
from api.exchange import Json
from api.wire import Id
from engine.arbiter import Caller, IncidentClosed, ModeOff, ModeOn, NewIncident, Opinion, StepTaken
from engine.opinions import BYTES

router = APIRouter(generate_unique_id_function=wire.operation_id)

_WATCHERS = ("deploy", "incident", "rules", "audit")
Watcher = Annotated[Caller, Depends(Needs(_WATCHERS))]
Responder = Annotated[Caller, Depends(Needs(("incident",)))]
Monitor = Annotated[Caller, Depends(Needs(("opinion",)))]
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


@router.get("/v1/playbooks", tags=["incidents"], responses=_READS)
async def read_playbooks(request: Request, caller: Watcher) -> Json:
    """The playbooks of the rulebook in force: what is open, and when each was practised last and is to be again."""
    return Json({"items": await desk_of(request).arbiter.incidents.playbooks(caller)})


@router.get("/v1/playbooks/{playbook}", tags=["incidents"], dependencies=[Depends(Needs(_WATCHERS))], responses=_READS)
async def read_playbook(request: Request, playbook: Id) -> Json:
    """One playbook: triggers, roles, steps, clocks and messages, in English and Chinese."""
    return Json(desk_of(request).arbiter.incidents.playbook(playbook))


@router.get("/v1/incidents", tags=["incidents"], responses=_READS)
async def read_incidents(request: Request, caller: Watcher) -> Json:
    """Every incident and drill, the newest first, with the steps that are open and what is overdue."""
    return Json({"items": await desk_of(request).arbiter.incidents.incidents(caller)})


@router.post(
    "/v1/incidents",
    tags=["incidents"],
    status_code=201,
    openapi_extra=wire.asks_for(
        NewIncident,
        example={"playbook": "data-breach", "reason": "A backup lies open.", "known": "2026-11-30T09:20:00+08:00"},
    ),
    responses={**_WRITES, 201: {"model": wire.Object}},
)
async def open_incident(request: Request, caller: Responder) -> Json:
    """Open an incident, or with `kind` drill practise one. What the playbook says Arbiter does by itself is done."""
    return Json(await desk_of(request).arbiter.incidents.start(await read_json(request), caller), status_code=201)


@router.get("/v1/incidents/{incident}", tags=["incidents"], responses=_READS)
async def read_incident(request: Request, incident: Id, caller: Watcher) -> Json:
    """How an incident stands: each step with who did it when and until when it is due, clocks, messages."""
    return Json(await desk_of(request).arbiter.incidents.incident(incident, caller))


@router.post(
    "/v1/incidents/{incident}/steps/{step}",
    tags=["incidents"],
    openapi_extra=wire.asks_for(StepTaken, example={"state": "done", "evidence": "Ticket 4711: the key was revoked."}),
    responses=_WRITES,
)
async def take_step(request: Request, incident: Id, step: Id, caller: Responder) -> Json:
    """Say that a step was done, with what shows it, or is passed over, with the reason. One that switches a mode on
    does so, and needs the scope deploy too."""
    body = await read_json(request)
    return Json(await desk_of(request).arbiter.incidents.step(incident, step, body, caller))


@router.post(
    "/v1/incidents/{incident}/close",
    tags=["incidents"],
    openapi_extra=wire.asks_for(IncidentClosed, example={"conclusion": "One key, revoked; 312 persons told."}),
    responses=_WRITES,
)
async def close_incident(request: Request, incident: Id, caller: Responder) -> Json:
    """End an incident, once each of its steps is done or passed over."""
    return Json(await desk_of(request).arbiter.incidents.close(incident, await read_json(request), caller))


@router.post(
    "/v1/webhooks/opinion",
    tags=["incidents"],
    openapi_extra=wire.asks_for(
        Opinion,
        example={
            "id": "r-20261130-17",
            "source": "weibo-monitor",
            "at": "2026-11-30T17:00:00+08:00",
            "sentiment": -0.62,
            "volume": 1840,
        },
    ),
    responses=_WRITES,
)
async def report_opinion(request: Request, caller: Monitor) -> Json:
    """Take in a report of an opinion monitor: numbers, no texts. The same one again gets the first answer."""
    return Json(await desk_of(request).arbiter.incidents.opinion(await read_json(request, BYTES), caller))


def figures(modes: Mapping[tuple[str, str], float], incidents: Mapping[str, Mapping[tuple[str, str], int]]) -> bytes:
    """Which modes are on, which incidents are open and what of them is overdue, as Prometheus reads it."""
    registry = CollectorRegistry()
    text = "Seconds for which a mode is still on; a mode that is not on is not there."
    _fill(Gauge("arbiter_mode_seconds_left", text, ["tenant", "mode"], registry=registry), modes)
    text = "Incidents and drills that are open."
    _fill(Gauge("arbiter_incidents_open", text, ["playbook", "kind"], registry=registry), incidents["open"])
    text = "Steps and clocks of open incidents that are past their time; drills do not count."
    _fill(Gauge("arbiter_incidents_overdue", text, ["playbook", "of"], registry=registry), incidents["overdue"])
    return generate_latest(registry)


def _fill(gauge: Gauge, values: Mapping[tuple[str, str], float]) -> None:
    for labels, value in sorted(values.items()):
        gauge.labels(*labels).set(value)
