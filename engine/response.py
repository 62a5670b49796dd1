"""How a playbook reads, and how an incident by it stands: steps, clocks, messages, as JSON. Values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from engine.packs.moments import BEIJING
from engine.playbooks import Playbook, Step, Trigger, filled

Row: TypeAlias = Mapping[str, Any]
"""A row of `incident` or `incident_step`."""

INCIDENT, DRILL = "incident", "drill"
DONE, SKIPPED = "done", "skipped"


def listed(book: Playbook, rows: Sequence[Row]) -> dict[str, Any]:
    """What a list says of a playbook, with all its incidents and drills."""
    practised = max((row["closed"] for row in rows if row["drill"] and row["closed"] is not None), default=None)
    return {
        "playbook": book.id,
        "name": dict(book.name),
        "owner": book.owner,
        "open": [row["id"] for row in rows if row["closed"] is None],
        "practised": practised,
        "drill_due": None if practised is None else practised + book.drill_every,
    }


def whole(book: Playbook) -> dict[str, Any]:
    """All that a playbook says."""
    return {
        "playbook": book.id,
        "name": dict(book.name),
        "about": dict(book.about),
        "owner": book.owner,
        "triggers": [_trigger(each) for each in book.triggers],
        "roles": {role: dict(name) for role, name in book.roles.items()},
        "steps": [_step(each) for each in book.steps],
        "timers": [
            {"id": each.id, "step": each.step, "within_s": each.within // 1_000_000, "what": dict(each.what),
             "law": list(each.law)} for each in book.timers
        ],
        "messages": [{"id": each.id, "to": dict(each.to), "text": dict(each.text)} for each in book.messages],
        "blanks": {name: dict(what) for name, what in book.blanks.items()},
        "drill_every_s": book.drill_every // 1_000_000,
    }  # fmt: skip


def _trigger(trigger: Trigger) -> dict[str, Any]:
    if trigger.alert:
        return {"alert": trigger.alert}
    within = {"within_s": trigger.within // 1_000_000}
    if trigger.webhook:
        return {"webhook": trigger.webhook, "sentiment": trigger.sentiment / 1000, "volume": trigger.volume, **within}
    asked = {name: value for name, value in (("when", trigger.when), ("signal", trigger.signal)) if value}
    return {"event": trigger.kind, **asked, "at_least": trigger.at_least, **within}


def _step(step: Step) -> dict[str, Any]:
    mode = {"name": step.mode[0], "for_s": step.mode[1] // 1_000_000} if step.mode else None
    return {
        "id": step.id,
        "role": step.role,
        "within_s": step.within // 1_000_000,
        "what": dict(step.what),
        "evidence": dict(step.evidence),
        "mode": mode,
        "automatic": step.automatic,
    }


def _due(row: Row, book: Playbook, step: Step) -> int:
    """When a step is due: in its time from the opening, and no later than the clocks that it stops, which run from the
    moment it became known."""
    clocks = [row["known"] + timer.within for timer in book.timers if timer.step == step.id]
    return int(min([row["opened"] + step.within, *clocks]))


def standing(row: Row, book: Playbook, taken: Mapping[str, Row], now: int) -> dict[str, Any]:
    """An incident with its steps, clocks and messages, as of `now`."""
    until = row["closed"] if row["closed"] is not None else now
    values = {"incident": row["id"], "known": _told(row["known"]), "opened": _told(row["opened"])}
    return {
        **{name: row[name] for name in ("id", "playbook", "rulebook", "cause", "known", "opened", "opened_by")},
        **{name: row[name] for name in ("reason", "closed", "closed_by", "conclusion", "record")},
        "kind": DRILL if row["drill"] else INCIDENT,
        "name": dict(book.name),
        "steps": [_step(step) | _taken(taken.get(step.id), _due(row, book, step), until) for step in book.steps],
        "timers": [
            {"id": timer.id, "step": timer.step, "what": dict(timer.what), "law": list(timer.law)}
            | _stopped(taken.get(timer.step), row["known"] + timer.within, until)
            for timer in book.timers
        ],
        "messages": [
            {
                "id": message.id,
                "to": dict(message.to),
                "text": {language: filled(text, values) for language, text in message.text.items()},
            }
            for message in book.messages
        ],
        "blanks": {name: dict(what) for name, what in book.blanks.items()},
    }


def _told(moment: int) -> str:
    return datetime.fromtimestamp(moment // 1_000_000, BEIJING).strftime("%Y-%m-%d %H:%M (UTC+8)")


def _taken(step: Row | None, due: int, until: int) -> dict[str, Any]:
    """How a step stands: who did what when; overdue while nobody did, late where somebody did afterwards."""
    if step is None:
        return {"state": "open", "due": due, "overdue": until > due, "late": False}
    told = {name: step[name] for name in ("state", "at", "by", "record")}
    return {**told, "said": step["evidence"], "due": due, "overdue": False, "late": step["at"] > due}


def _stopped(step: Row | None, due: int, until: int) -> dict[str, Any]:
    """How a clock stands: running, met, late, or not needed as its step was passed over."""
    if step is None:
        return {"state": "running", "due": due, "at": None, "overdue": until > due}
    state = "not needed" if step["state"] == SKIPPED else "late" if step["at"] > due else "met"
    return {"state": state, "due": due, "at": step["at"], "overdue": False}


def short(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What a list of incidents says of one."""
    head = {name: shown[name] for name in ("id", "playbook", "name", "kind", "cause", "known", "opened", "opened_by")}
    steps = [each["id"] for each in shown["steps"] if each["state"] == "open"]
    overdue = [each["id"] for part in ("steps", "timers") for each in shown[part] if each["overdue"]]
    due = min((each["due"] for part in ("steps", "timers") for each in shown[part]
               if each["state"] in ("open", "running")), default=None)  # fmt: skip
    return {**head, "reason": shown["reason"], "closed": shown["closed"], "open": steps, "overdue": overdue, "due": due}
