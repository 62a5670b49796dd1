"""What the times of events must be: against our clock, and against the event that an outcome is about."""

from __future__ import annotations

from engine.errors import FieldProblem
from engine.schema.events import Event

FUTURE = 5 * 60 * 1_000_000
"""µs by which an event's own time may lie ahead of ours; more is a wrong clock, and would poison windows."""


def misplaced(outcome: Event, kind: str, at: int) -> FieldProblem | None:
    """Why an outcome cannot be one of the event of this `kind` that happened `at`; None when it can.

    Two senders' clocks may differ by `FUTURE`.
    """
    if kind == "outcome":
        what, hint = "an outcome is not about another outcome", "send the id of the event that both are about"
        return FieldProblem("outcome.refers_to", "wrong_kind", what, hint)
    if outcome.at < at - FUTURE:
        what, hint = "lies before the event that the outcome is about", "send when the outcome became known"
        return FieldProblem("at", "out_of_range", what, hint)
    return None
