"""Rulebooks on their way into force: proposed, approved by a second person, let decide, rolled back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from api import wire
from api.desk import Needs, desk_of, read_json
from api.exchange import Json
from api.wire import Id
from engine.arbiter import Activation, Caller, Judgement, NewProposal, Rollback

router = APIRouter(tags=["rulebook"], generate_unique_id_function=wire.operation_id)

_READERS = ("author", "approve", "deploy", "audit")
Reader = Annotated[Caller, Depends(Needs(_READERS))]
Author = Annotated[Caller, Depends(Needs(("author",)))]
Approver = Annotated[Caller, Depends(Needs(("approve",)))]
ApproverOrAuthor = Annotated[Caller, Depends(Needs(("approve", "author")))]
Deployer = Annotated[Caller, Depends(Needs(("deploy",)))]

_READS = wire.refusals(400, 401, 403, 404, 429)
_WRITES = wire.refusals(400, 401, 403, 404, 409, 413, 415, 422, 429)
_ANSWERS = {200: {"model": wire.Object}, **_WRITES}


@router.get("/v1/rulebook/proposals", responses=_READS)
async def read_proposals(request: Request, caller: Reader) -> Json:
    """Every rulebook that was proposed, the newest first, with its state: open, approved, declined, in_force or
    replaced. `stale`: another rulebook came into force since, so that it has to be proposed again."""
    return Json({"items": await desk_of(request).arbiter.approvals.proposals(caller)})


@router.get(
    "/v1/rulebook/files", dependencies=[Depends(Needs(_READERS))], responses={200: {"model": wire.Object}, **_READS}
)
async def read_files(request: Request) -> Json:
    """The files of the rulebook in force, by their paths: what a proposal is made against."""
    return Json(desk_of(request).arbiter.approvals.files())


@router.post(
    "/v1/rulebook/proposals",
    status_code=201,
    openapi_extra=wire.asks_for(
        NewProposal,
        example={
            "files": {"rules/payments/first-order.yaml": "pack: payments/first-order\n…", "policies/…": "…"},
            "reason": "Large first orders by guests are charged back three times as often.",
        },
    ),
    responses={201: {"model": wire.Object}, **_WRITES},
)
async def propose_rulebook(request: Request, caller: Author) -> Json:
    """Propose a rulebook: all its files. It is loaded and its tests are run; every problem is told at once."""
    desk = desk_of(request)
    body = await read_json(request, desk.limits.rulebook_bytes)
    return Json(await desk.arbiter.approvals.propose(body, caller), status_code=201)


@router.get(
    "/v1/rulebook/proposals/{proposal_id}",
    responses={200: {"model": wire.Object}, **_READS},
)
async def read_proposal(request: Request, proposal_id: Id, caller: Reader) -> Json:
    """One proposal: its papers, and what it would change, as a unified diff."""
    return Json(await desk_of(request).arbiter.approvals.proposal(proposal_id, caller))


@router.post(
    "/v1/rulebook/proposals/{proposal_id}/approval",
    openapi_extra=wire.asks_for(Judgement, example={"reason": "Looked at the backtest of October."}),
    responses=_ANSWERS,
)
async def approve_proposal(request: Request, proposal_id: Id, caller: Approver) -> Json:
    """Approve a proposal: by another person than its author. Of one that was forced this is the follow-up."""
    body = await read_json(request)
    return Json(await desk_of(request).arbiter.approvals.judge(proposal_id, body, caller, approved=True))


@router.post(
    "/v1/rulebook/proposals/{proposal_id}/rejection",
    openapi_extra=wire.asks_for(Judgement, example={"reason": "It would ask one honest guest in ten."}),
    responses=_ANSWERS,
)
async def decline_proposal(request: Request, proposal_id: Id, caller: ApproverOrAuthor) -> Json:
    """Decline a proposal, with a reason. Its author takes it back so."""
    body = await read_json(request)
    return Json(await desk_of(request).arbiter.approvals.judge(proposal_id, body, caller, approved=False))


@router.post(
    "/v1/rulebook/proposals/{proposal_id}/activation",
    openapi_extra=wire.asks_for(Activation, example={"force": False}),
    responses=_ANSWERS,
)
async def activate_proposal(request: Request, proposal_id: Id, caller: Deployer) -> Json:
    """Let an approved proposal decide, in all workers at once, and say what is different. `force` does so without an
    approval, with a reason: it raises an alarm, and another person has to look at it within a day."""
    body = await read_json(request)
    return Json(await desk_of(request).arbiter.approvals.activate(proposal_id, body, caller))


@router.post(
    "/v1/rulebook/rollback",
    openapi_extra=wire.asks_for(Rollback, example={"reason": "The new rule stops orders of one bank."}),
    responses=_ANSWERS,
)
async def roll_back(request: Request, caller: Deployer) -> Json:
    """Let the rulebook before decide again, or `to`, one that was in force earlier. It needs no new approval."""
    return Json(await desk_of(request).arbiter.approvals.roll_back(await read_json(request), caller))


def figures(follow_ups: Mapping[str, int]) -> bytes:
    """How many forced rulebooks wait for a second person, as Prometheus reads it."""
    registry = CollectorRegistry()
    text = "Rulebooks that one person alone let decide and nobody else has looked at; overdue: for more than a day."
    gauge = Gauge("arbiter_rulebook_follow_ups", text, ["state"], registry=registry)
    for state, count in follow_ups.items():
        gauge.labels(state).set(count)
    return generate_latest(registry)
