"""Where merchants, anchors and others whom a profile is about stand: read, assessed, reviewed, set."""

from __future__ import annotations

from fastapi import APIRouter, Request

from api import wire
from api.admin import Officer, OfficerOrAuditor
from api.desk import desk_of, read_json
from api.exchange import Json
from api.wire import Id
from engine.arbiter import NamedSubject, SubjectTier

router = APIRouter(generate_unique_id_function=wire.operation_id)

_READS = {200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 429)}
_WRITES = {200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 409, 413, 415, 422, 429)}
_WHO = wire.asks_for(NamedSubject, example={"subject": "anchor-12"})


@router.get("/v1/merchants/{merchant_id}/explanation", tags=["merchants"], responses=_READS)
async def explain_merchant(request: Request, merchant_id: Id, caller: OfficerOrAuditor) -> Json:
    """What a merchant may know of its tier: why, how much each reason weighs, what to do, when it is looked at again.
    No points and no limits."""
    return Json(await desk_of(request).arbiter.own_standing(merchant_id, caller))


@router.post("/v1/merchants/{merchant_id}/assessment", tags=["merchants"], responses=_WRITES)
async def assess_merchant(request: Request, merchant_id: Id, caller: Officer) -> Json:
    """Assess a merchant now, and record it. The answer is as that of GET /v1/merchants/{merchant_id}."""
    return Json(await desk_of(request).arbiter.assess_merchant(merchant_id, caller))


@router.post("/v1/merchants/reviews", tags=["merchants"], responses=_WRITES)
async def review_merchants(request: Request, caller: Officer, everybody: bool = False) -> Json:
    """Assess those whose review is due, a part of them at once: call again while some are `left`. With `everybody` also
    merchants that were never assessed."""
    return Json(await desk_of(request).arbiter.review_merchants(caller, everybody=everybody))


@router.post("/v1/profiles/{profile}/standing", tags=["merchants"], openapi_extra=_WHO, responses=_WRITES)
async def read_standing(request: Request, profile: Id, caller: OfficerOrAuditor) -> Json:
    """Where somebody of another profile stands. It is a POST since names of persons do not belong into addresses."""
    return Json(await desk_of(request).arbiter.standing(profile, await read_json(request), caller))


@router.post("/v1/profiles/{profile}/explanation", tags=["merchants"], openapi_extra=_WHO, responses=_WRITES)
async def explain_standing(request: Request, profile: Id, caller: OfficerOrAuditor) -> Json:
    """What they may know of it themselves."""
    return Json(await desk_of(request).arbiter.standing(profile, await read_json(request), caller, own=True))


@router.post("/v1/profiles/{profile}/assessment", tags=["merchants"], openapi_extra=_WHO, responses=_WRITES)
async def assess_standing(request: Request, profile: Id, caller: Officer) -> Json:
    """Assess somebody of another profile now, and record it."""
    return Json(await desk_of(request).arbiter.assess(profile, await read_json(request), caller))


@router.put(
    "/v1/profiles/{profile}/standing",
    tags=["merchants"],
    openapi_extra=wire.asks_for(
        SubjectTier, example={"subject": "anchor-12", "tier": "known", "reason": "the complaints were of another"}
    ),
    responses=_WRITES,
)
async def set_standing(request: Request, profile: Id, caller: Officer) -> Json:
    """Let somebody of another profile stand in a tier, until a time or for good."""
    return Json(await desk_of(request).arbiter.set_standing(profile, await read_json(request), caller))
