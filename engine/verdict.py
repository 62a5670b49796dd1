"""What a rule finds and what a decision says: frozen values that pass between the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SEVERITIES = ("info", "low", "medium", "high", "critical")
"""Mildest first."""

TRUTHS = ("false", "true", "unknown")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is so about an event, said by a rule or by Arbiter itself (`rule` is then the cause).

    `hard` findings may not be softened by an exception or by `at_most`. `group`: of one group only the highest
    points count. `because` holds a message template per language; `cites` names articles of law.
    """

    rule: str
    signal: str
    severity: str = "info"
    points: int = 0
    hard: bool = False
    group: str = ""
    because: Mapping[str, str] | None = None
    cites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """Something to be done beside the verdict. `seconds` is how long it holds, 0 without an end."""

    do: str
    seconds: int = 0
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step on the way to the verdict: which part of the policy moved it, from what, to what, and why."""

    by: str
    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policy says: the verdict, the score behind it, all signals that held and the steps taken, and by profile
    the terms that hold for the event's tier."""

    verdict: str
    score: int
    signals: tuple[str, ...]
    actions: tuple[Action, ...]
    steps: tuple[Step, ...]
    asks: Mapping[str, Any] | None = None
    terms: Mapping[str, Any] | None = None
