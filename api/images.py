"""Images of listings: sent to be looked at, and the known ones they are compared with."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from api import wire
from api.desk import Needs, desk_of, read_json
from api.exchange import Json, exchange_of, read_body
from api.problems import MediaTypeRefused
from api.wire import Id
from engine.arbiter import Caller, ImageAddress, NewReference
from engine.errors import RequestRefused

router = APIRouter(tags=["images"], generate_unique_id_function=wire.operation_id)

Sender = Annotated[Caller, Depends(Needs(("score",)))]
Reader = Annotated[Caller, Depends(Needs(("score", "rules", "audit")))]
Officer = Annotated[Caller, Depends(Needs(("rules",)))]
OfficerOrAuditor = Annotated[Caller, Depends(Needs(("rules", "audit")))]
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]

_READS = wire.refusals(400, 401, 403, 404, 429)
_WRITES = wire.refusals(400, 401, 403, 404, 409, 413, 415, 422, 429)
_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "application/octet-stream")
_BYTES = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _TYPES}


@router.post(
    "/v1/images",
    openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
    responses={200: {"model": wire.Image}, **wire.refusals(400, 401, 403, 408, 413, 415, 429)},
)
async def send_image(request: Request, caller: Sender) -> Json:
    """Look at an image: its SHA-256, which known images it looks like, what a detector sees. Its bytes are not kept.

    An image that cannot be read is no error: `broken` says why, and listings that name it get a finding.
    """
    desk, exchange = desk_of(request), exchange_of(request.scope)
    if exchange.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1") not in _TYPES:
        raise MediaTypeRefused(f"Send Content-Type: one of {', '.join(_TYPES)}.")
    limits = desk.limits
    body = await read_body(request.receive, exchange.headers, limits.image_bytes, limits.body_seconds)
    if not body:
        raise RequestRefused("The body is empty: send the bytes of an image.")
    return Json(await desk.arbiter.take_image(body, caller))


@router.post(
    "/v1/images/fetch",
    openapi_extra=wire.asks_for(ImageAddress, example={"url": "https://img.example.com/1.jpg"}),
    responses={200: {"model": wire.Image}, **_WRITES},
)
async def fetch_image(request: Request, caller: Sender) -> Json:
    """Fetch an image by its https URL and look at it, where the operator lets this server fetch."""
    desk = desk_of(request)
    return Json(await desk.arbiter.fetch_image(await read_json(request), caller, desk.limits.image_bytes))


@router.get("/v1/images/references", responses={200: {"model": wire.Object}, **_READS})
async def read_image_references(request: Request, caller: OfficerOrAuditor) -> Json:
    """The known images, ended ones too."""
    return Json({"items": await desk_of(request).arbiter.references.read(caller)})


@router.post(
    "/v1/images/references",
    status_code=201,
    openapi_extra=wire.asks_for(
        NewReference,
        example={"image": "4be0" * 16, "kind": "counterfeit", "label": "acme-bag", "reason": "found in order 2026-118"},
    ),
    responses={201: {"model": wire.Object}, **_WRITES},
)
async def add_image_reference(request: Request, caller: Officer) -> Json:
    """Let an image that was sent be known from now on."""
    return Json(await desk_of(request).arbiter.references.add(await read_json(request), caller), status_code=201)


@router.delete("/v1/images/references/{reference}", responses={200: {"model": wire.Object}, **_WRITES})
async def remove_image_reference(request: Request, reference: Id, caller: Officer) -> Json:
    """Ask for the end of a known image. It counts until a second person approves."""
    return Json(await desk_of(request).arbiter.references.remove(reference, caller))


@router.post("/v1/images/references/{reference}/approval", responses={200: {"model": wire.Object}, **_WRITES})
async def approve_image_reference(request: Request, reference: Id, caller: Officer) -> Json:
    """Let a known image end whose end waits. By a second person."""
    return Json(await desk_of(request).arbiter.references.approve(reference, caller))


@router.delete("/v1/images/references/{reference}/approval", responses={200: {"model": wire.Object}, **_WRITES})
async def withdraw_image_reference(request: Request, reference: Id, caller: Officer) -> Json:
    """Say no to an end that waits: the known image stays."""
    return Json(await desk_of(request).arbiter.references.withdraw(reference, caller))


@router.get("/v1/images/{sha256}", responses={200: {"model": wire.Image}, **_READS})
async def read_image(request: Request, sha256: Digest, caller: Reader) -> Json:
    """What is known of an image that was sent, and which known ones it looks like now."""
    return Json(await desk_of(request).arbiter.image(sha256, caller))
