"""What officers and operators need: lists, merchants, the rulebook, health and metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse, Response

from api import manual, wire
from api.appeals import figures as appealed
from api.desk import Needs, desk_of, read_json
from api.exchange import Json
from api.incidents import figures as going_on
from api.log import figures
from api.rulebooks import figures as waiting
from api.wire import Id
from engine.arbiter import Caller, ErasureRequest, NewEntry, TierChange
from engine.errors import Unavailable

router = APIRouter(generate_unique_id_function=wire.operation_id)

Officer = Annotated[Caller, Depends(Needs(("rules",)))]
OfficerOrAuditor = Annotated[Caller, Depends(Needs(("rules", "audit")))]
Admin = Annotated[Caller, Depends(Needs(("admin",)))]

_READS = wire.refusals(400, 401, 403, 404, 429)
_WRITES = wire.refusals(400, 401, 403, 404, 409, 413, 415, 422, 429)


@router.get("/v1/lists", tags=["lists"], responses=_READS)
async def read_lists(request: Request, caller: OfficerOrAuditor) -> Json:
    """The lists that rules name, with what they hold and who may add to them."""
    return Json({"items": desk_of(request).arbiter.lists(caller)})


@router.get("/v1/lists/{name}/entries", tags=["lists"], responses=_READS)
async def read_list_entries(request: Request, name: Id, caller: OfficerOrAuditor) -> Json:
    """The entries of one list that were added here; those from files are in the rulebook."""
    return Json({"items": await desk_of(request).arbiter.list_entries(name, caller)})


@router.post(
    "/v1/lists/{name}/entries",
    tags=["lists"],
    status_code=201,
    openapi_extra=wire.asks_for(
        NewEntry,
        example={"value": "203.0.113.7", "reason": "card testing", "expires": "2027-01-31T00:00:00+08:00"},
    ),
    responses={201: {"model": wire.Object}, **_WRITES},
)
async def add_list_entry(request: Request, name: Id, caller: Officer) -> Json:
    """Add an entry. On a list that lowers risk it waits for a second person."""
    return Json(await desk_of(request).arbiter.add_list_entry(name, await read_json(request), caller), status_code=201)


@router.post(
    "/v1/lists/{name}/entries/{entry}/approval",
    tags=["lists"],
    responses={200: {"model": wire.Object}, **_WRITES},
)
async def approve_list_entry(request: Request, name: Id, entry: Id, caller: Officer) -> Json:
    """Let a waiting entry hold, or an entry whose end waits end. By a second person."""
    return Json(await desk_of(request).arbiter.approve_list_entry(name, entry, caller))


@router.delete(
    "/v1/lists/{name}/entries/{entry}/approval",
    tags=["lists"],
    responses={200: {"model": wire.Object}, **_WRITES},
)
async def withdraw_list_entry(request: Request, name: Id, entry: Id, caller: Officer) -> Json:
    """Say no to what waits: a waiting entry ends, an entry whose end waits stays."""
    return Json(await desk_of(request).arbiter.withdraw_list_entry(name, entry, caller))


@router.delete("/v1/lists/{name}/entries/{entry}", tags=["lists"], responses={200: {"model": wire.Object}, **_WRITES})
async def remove_list_entry(request: Request, name: Id, entry: Id, caller: Officer) -> Json:
    """End an entry. On a list that raises risk it holds until a second person approves. It stays in the record."""
    return Json(await desk_of(request).arbiter.remove_list_entry(name, entry, caller))


@router.get("/v1/merchants/{merchant_id}", tags=["merchants"], responses={200: {"model": wire.Object}, **_READS})
async def read_merchant(request: Request, merchant_id: Id, caller: OfficerOrAuditor) -> Json:
    """A merchant's tier."""
    return Json(await desk_of(request).arbiter.merchant(merchant_id, caller))


@router.put(
    "/v1/merchants/{merchant_id}",
    tags=["merchants"],
    openapi_extra=wire.asks_for(TierChange, example={"tier": "watched", "reason": "new seller of gift cards"}),
    responses={200: {"model": wire.Object}, **_WRITES},
)
async def set_merchant(request: Request, merchant_id: Id, caller: Officer) -> Json:
    """Set a merchant's tier: the scores at which verdicts are reached. Callers cannot choose it in an event."""
    return Json(await desk_of(request).arbiter.set_merchant_tier(merchant_id, await read_json(request), caller))


@router.get(
    "/v1/rulebook",
    tags=["rulebook"],
    dependencies=[Depends(Needs(()))],
    responses={200: {"model": wire.Object}, **_READS},
)
async def read_rulebook(request: Request) -> Json:
    """The rulebook in force: its hash, packs and policies."""
    return Json(desk_of(request).arbiter.rulebook_info())


@router.get(
    "/v1/law/{article}",
    tags=["rulebook"],
    dependencies=[Depends(Needs(()))],
    responses={200: {"model": wire.Object}, **_READS},
)
async def read_article(request: Request, article: Id) -> Json:
    """An article of law that rules cite, in all its versions, by its id, such as cn.ecl.17."""
    return Json(desk_of(request).arbiter.article(article))


@router.get("/v1/experiments", tags=["rulebook"], responses={200: {"model": wire.Object}, **_READS})
async def read_experiments(request: Request, caller: OfficerOrAuditor) -> Json:
    """How far each experiment is, counted out of the ledger; a result only once the declared sample is full."""
    return Json(await desk_of(request).arbiter.experiments(caller))


@router.get("/v1/alerts", tags=["alerts"], responses={200: {"model": wire.Object}, **_READS})
async def read_alerts(request: Request, caller: OfficerOrAuditor) -> Json:
    """The alerts that are raised now, each with its message, and how every alert line stood at the last look."""
    return Json(await desk_of(request).arbiter.alerts(caller))


@router.post("/v1/rulebook/reload", tags=["rulebook"], responses={200: {"model": wire.Object}, **_WRITES})
async def reload_rulebook(request: Request, caller: Admin) -> Json:
    """Read the packs again. Takes force as a whole and says what changed; with problems, the one before it stays."""
    return Json(await desk_of(request).arbiter.reload(caller))


@router.post(
    "/v1/erasures",
    tags=["persons"],
    openapi_extra=wire.asks_for(
        ErasureRequest, example={"identities": {"buyer.account": "u-20391"}, "reason": "asked for it on 2026-11-29"}
    ),
    responses={200: {"model": wire.Object}, **_WRITES},
)
async def erase_person(request: Request, caller: Admin) -> Json:
    """Erase a person of the key's tenant. What the law keeps is restricted until its term is over: nobody reads it."""
    return Json(await desk_of(request).arbiter.erase(await read_json(request), caller))


@router.get("/livez", tags=["health"], responses={200: {"model": wire.Object}})
async def read_liveness() -> Json:
    """200 while the process runs."""
    return Json({"live": True})


@router.get("/readyz", tags=["health"], responses={200: {"model": wire.Ready}, 503: {"model": wire.Ready}})
async def read_readiness(request: Request) -> Json:
    """200 when every worker answers at full strength, else 503 with the reasons."""
    state = await desk_of(request).arbiter.all_ready()
    return Json(state) if state["ready"] else Json(state, status_code=503, headers={"retry-after": "1"})


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Counters for Prometheus, of all workers, and how far the log is."""
    desk = desk_of(request)
    counters = desk.meters.text(desk.arbiter.team.index, await desk.others())
    try:
        more = going_on(desk.arbiter.modes.seconds_left(), await desk.arbiter.incidents.figures())
        more += figures(await desk.arbiter.log_state()) + waiting(await desk.arbiter.approvals.follow_ups())
        more += appealed(await desk.arbiter.hearings.waiting())
    except Unavailable:  # /readyz says so; the counters are needed all the more
        more = b""
    return Response(counters + more, media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The manual of this API, as one page that loads nothing from anywhere."""
    return HTMLResponse(manual.page(request.app.openapi()), headers={"content-security-policy": manual.CSP})
