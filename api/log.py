"""The log, for whoever checks it: its key, what it signed, and proofs. As text, in the forms of C2SP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from starlette.responses import PlainTextResponse

from api import wire
from api.desk import Needs, desk_of
from api.exchange import Json
from api.wire import Id
from engine.arbiter import Caller
from engine.errors import NotFound, RequestRefused
from engine.notes import write_hashes

router = APIRouter(tags=["proof"], generate_unique_id_function=wire.operation_id)

Holder = Annotated[Caller, Depends(Needs(("score", "audit")))]
Size = Annotated[int, Query(ge=1, lt=2**63)]


@router.get("/v1/keys/receipt", responses={200: {"model": wire.ReceiptKey}, **wire.refusals()})
async def read_receipt_key(request: Request) -> Json:
    """The public key that receipts and checkpoints are signed with (Ed25519)."""
    return Json(desk_of(request).arbiter.public_key)


@router.get(
    "/v1/log",
    dependencies=[Depends(Needs(("audit", "admin")))],
    responses={200: {"model": wire.Object}, **wire.refusals(401, 403, 429)},
)
async def read_log(request: Request) -> Json:
    """How far the log goes, how far it is signed and seen by somebody outside, and what is wrong. Times are UTC
    microseconds since 1970; `open` is how many signed entries nobody outside has seen."""
    return Json(await desk_of(request).arbiter.log_state())


@router.get(
    "/v1/log/checkpoint",
    response_class=PlainTextResponse,
    responses={200: {"description": "A signed note (C2SP tlog-checkpoint)."}, **wire.refusals(404)},
)
async def read_checkpoint(request: Request) -> PlainTextResponse:
    """How many entries the log has and their root, signed last, with the signatures of witnesses. Keep it: no later log
    that is another one can pass for this."""
    published = await desk_of(request).arbiter.log.latest()
    if published is None:
        raise NotFound("nothing was signed yet; ask again within ten seconds of the first decision")
    return PlainTextResponse(published.note)


@router.get(
    "/v1/log/consistency",
    dependencies=[Depends(Needs(()))],
    response_class=PlainTextResponse,
    responses={
        200: {"description": "One hash a line, base64 (RFC 6962 §2.1.2)."},
        **wire.refusals(400, 401, 403, 404, 429),
    },
)
async def read_consistency(
    request: Request,
    old: Annotated[Size, Query(description="Entries of the checkpoint that you keep.")],
    new: Annotated[Size, Query(description="Entries of the later one.")],
) -> PlainTextResponse:
    """The proof that what you know is the beginning of what is signed now."""
    log = desk_of(request).arbiter.log
    published = await log.latest()
    if old > new:
        raise RequestRefused("`old` is above `new`: a proof leads from the smaller log to the larger one.")
    if published is None or new > published.checkpoint.size:
        size = published.checkpoint.size if published else 0
        raise NotFound(f"the log has signed {size} entries, not {new}")
    return PlainTextResponse(write_hashes(await log.consistency(old, new)))


@router.get(
    "/v1/decisions/{decision_id}/proof",
    response_class=PlainTextResponse,
    responses={
        200: {"description": "A C2SP tlog-proof: place, path and checkpoint."},
        **wire.refusals(400, 401, 403, 404, 429),
    },
)
async def read_proof(request: Request, decision_id: Id, caller: Holder) -> PlainTextResponse:
    """What the receipt promised: the proof that this entry is in the log. 404 before a checkpoint covers it, which one
    does within the receipt's `max_merge_delay_s`."""
    return PlainTextResponse(await desk_of(request).arbiter.proof(decision_id, caller))


def figures(state: Mapping[str, Any]) -> bytes:
    """How far the log is, as Prometheus reads it."""
    registry = CollectorRegistry()
    entries = Gauge("arbiter_log_entries", "Entries by what was done with them.", ["state"], registry=registry)
    entries.labels("placed").set(state["entries"])
    for name in ("signed", "anchored"):
        entries.labels(name).set(state[name]["entries"] if state[name] else 0)
    problems = Gauge(
        "arbiter_log_problem", "1: the log is not signed, or an anchor does not see it.", ["of"], registry=registry
    )
    for name in state["problems"]:
        problems.labels(name).set(1)
    return generate_latest(registry)
