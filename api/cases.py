"""What was decided, why, and how it ended: reading decisions, and resolving what they left open."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BeforeValidator, WithJsonSchema

from api import wire
from api.desk import Needs, desk_of, read_json
from api.exchange import Json
from api.wire import Id
from engine.arbiter import PURPOSES, Audience, Caller, NoticeSent, Reveal
from engine.cases import ChallengeEnded, Enforced, ReviewEnded
from engine.errors import NotAllowed, RequestRefused
from engine.schema import instant

router = APIRouter(tags=["decisions"], generate_unique_id_function=wire.operation_id)

Reader = Annotated[Caller, Depends(Needs(("audit",)))]
Reporter = Annotated[Caller, Depends(Needs(("outcome",)))]
Teller = Annotated[Caller, Depends(Needs(("outcome", "audit")))]
Sender = Annotated[Caller, Depends(Needs(("score", "outcome")))]

Instant = Annotated[int, BeforeValidator(instant), WithJsonSchema({"type": "string", "format": "date-time"})]
"""UTC microseconds, read as the instants of events are."""

Filter = Annotated[Id | None, Query()]

Purpose = Annotated[
    Id | None,
    Query(
        description="What personal values are to be shown for, to a key with the scope reveal: "
        f"{', '.join(PURPOSES)}. Without it they stay sealed. Each look is recorded, with its purpose.",
    ),
]


@router.post(
    "/v1/events",
    openapi_extra=wire.asks_for_event(),
    responses={200: {"model": wire.Recorded}, **wire.refusals(400, 401, 403, 408, 409, 413, 415, 422, 429)},
)
async def record_event(request: Request, caller: Sender) -> Json:
    """Record an event that feeds the windows and asks for no verdict: outcomes, fulfilment, account changes.

    An `outcome` needs the scope outcome, everything else the scope score.
    """
    body = await read_json(request)
    needed = "outcome" if _kind(body) == "outcome" else "score"
    if needed not in caller.scopes:
        raise NotAllowed("scope missing", missing=needed)
    return Json(await desk_of(request).arbiter.observe(body, caller))


@router.get("/v1/decisions", responses={200: {"model": wire.DecisionPage}, **wire.refusals(400, 401, 403, 429)})
async def list_decisions(
    request: Request,
    caller: Reader,
    event_id: Filter = None,
    verdict: Filter = None,
    kind: Filter = None,
    merchant_id: Filter = None,
    order_id: Filter = None,
    since: Annotated[Instant | None, Query(description="Received at or after, with a zone.")] = None,
    until: Annotated[Instant | None, Query(description="Received before, with a zone.")] = None,
    cursor: Filter = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Json:
    """Decisions of your tenant, newest first, a page at a time."""
    _no_other_parameters(request)
    page = await desk_of(request).arbiter.decisions(
        caller,
        event_id=event_id,
        verdict=verdict,
        kind=kind,
        merchant_id=merchant_id,
        order_id=order_id,
        since=since,
        until=until,
        cursor=cursor,
        limit=limit,
    )
    return Json(page)


@router.get(
    "/v1/decisions/{decision_id}", responses={200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 429)}
)
async def read_decision(request: Request, decision_id: Id, caller: Reader, purpose: Purpose = None) -> Json:
    """One decision as recorded, its receipt, and everything that came after it."""
    reveal = _reveal(request, purpose)
    return Json(await desk_of(request).arbiter.decision(decision_id, caller, reveal))


@router.get(
    "/v1/decisions/{decision_id}/explanation",
    responses={200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 429)},
)
async def explain_decision(request: Request, decision_id: Id, caller: Reader, purpose: Purpose = None) -> Json:
    """Why: each rule that fired with the answers to its questions, each step of the policy, and what came after.

    Personal values, and reasons in free text, only for a key that has the scope reveal too, and for a purpose.
    """
    reveal = _reveal(request, purpose)
    return Json(await desk_of(request).arbiter.explanation(decision_id, caller, reveal))


@router.get(
    "/v1/decisions/{decision_id}/notice",
    responses={200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 409, 429)},
)
async def read_notice(
    request: Request,
    decision_id: Id,
    caller: Teller,
    lang: Annotated[Literal["en", "zh"], Query(description="The language.")] = "en",
    audience: Annotated[
        Audience, Query(alias="for", description="Whom it tells; officer needs the scope audit.")
    ] = "person",
    of: Annotated[Id | None, Query(description="An earlier record of the case, of which it tells.")] = None,
    purpose: Purpose = None,
) -> Json:
    """What the person is told of a decision as it stands: what, why, on what ground, whether a program alone decided,
    what can be done until when. It teaches nobody how to get past a rule; officers see everything behind it."""
    reveal = _reveal(request, purpose, "lang", "for", "of")
    return Json(await desk_of(request).arbiter.notice(decision_id, caller, audience, lang, of, reveal))


@router.post(
    "/v1/decisions/{decision_id}/notice",
    openapi_extra=wire.asks_for(NoticeSent, example={"channel": "email", "lang": "zh", "sha256": "0" * 64}),
    responses={200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 409, 413, 415, 422, 429)},
)
async def record_notice(request: Request, decision_id: Id, caller: Reporter) -> Json:
    """Say that the notice was sent. The hash, the channel and the time are kept, and nothing of the person."""
    return Json(await desk_of(request).arbiter.notice_sent(decision_id, await read_json(request), caller))


def _reveal(request: Request, purpose: str | None, *others: str) -> Reveal:
    known = (*others, "purpose")
    if not set(request.query_params) <= set(known):
        # One that is written wrong would show everything sealed, and leave it open why.
        one = "The one that is" if len(known) == 1 else "Those that are"
        raise RequestRefused(f"A parameter is not known. {one}: {', '.join(known)}.")
    return Reveal(purpose, desk_of(request).limits.reveals_per_hour)


@router.post(
    "/v1/decisions/{decision_id}/resolution",
    openapi_extra=wire.asks_for(
        ChallengeEnded, ReviewEnded, Enforced, example={"what": "challenge", "result": "passed"}
    ),
    responses={200: {"model": wire.Object}, **wire.refusals(400, 401, 403, 404, 409, 413, 415, 422, 429)},
)
async def resolve_decision(request: Request, decision_id: Id, caller: Reporter) -> Json:
    """Say how it went on: a challenge or review ended, or what was really done. A new, linked entry."""
    return Json(await desk_of(request).arbiter.resolve(decision_id, await read_json(request), caller))


def _kind(body: bytes) -> Any:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None  # the schema says what is wrong with it
    return event.get("kind") if isinstance(event, dict) else None


_PARAMETERS = ("event_id", "verdict", "kind", "merchant_id", "order_id", "since", "until", "cursor", "limit")


def _no_other_parameters(request: Request) -> None:
    """A filter that is not known must not be passed over: whoever asked would trust a page that is not filtered."""
    if not set(request.query_params) <= set(_PARAMETERS):
        raise RequestRefused(f"A parameter is not known. Those that are: {', '.join(_PARAMETERS)}.")
