"""Cases with their names filled in: fixtures, histories, and the values of rows and matrix."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from engine.errors import did_you_mean
from engine.packs import Loc
from engine.rules import Before
from engine.suites.pack import Case, Events, Expected, History, SuitePack

DEEPEST = 8
"""How deep histories may name each other."""
_NAME = re.compile(r"\{([a-z0-9]+(?:[._-][a-z0-9]+)*)\}")


class Misnamed(Exception):
    """A name in a case that stands for nothing, and where it stands in the case."""

    def __init__(self, what: str, *loc: str | int, hint: str = "") -> None:
        super().__init__(what)
        self.loc: Loc = loc
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Filled:
    """One case with all names filled in; a scene for the stage."""

    it: str
    kind: str | None
    before: Sequence[Before]
    event: Mapping[str, Any]
    tier: str
    degraded: tuple[str, ...]
    tripped: frozenset[str]
    modes: tuple[str, ...]
    expect: Expected
    case: Case


def combinations(case: Case) -> Iterator[Mapping[str, Any]]:
    """The values for the names of a case: for each row and each combination of the matrix one set."""
    for row in case.rows or [{}]:
        for values in product(*case.matrix.values()):
            yield {**_plain(row), **dict(zip(map(str, case.matrix), values, strict=True))}


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


def fill(pack: SuitePack, case: Case, values: Mapping[str, Any]) -> Filled:
    """A case with its names filled in. Raises Misnamed."""

    def given(value: Any, *loc: str | int) -> Any:
        return _filled(value, values, loc)

    at = given(case.at or pack.at, "at")
    event = given(_event(pack, case.event), "event")
    return Filled(
        it=str(given(case.it, "it")),
        kind=given(case.kind, "kind"),
        before=[
            each.model_copy(update={"event": given(each.event, "before")})
            for each in _history(pack, case.before, DEEPEST)
        ],
        event={**({} if at is None else {"at": str(at)}), **event},
        tier=str(given(case.tier, "tier")),
        degraded=tuple(map(str, given(case.degraded, "degraded"))),
        tripped=frozenset(map(str, given(case.tripped, "tripped"))),
        modes=tuple(map(str, given(case.modes, "modes"))),
        expect=case.expect.model_copy(
            update={name: given(getattr(case.expect, name), "expect", name) for name in Expected.model_fields}
        ),
        case=case,
    )


def _event(pack: SuitePack, written: Events) -> dict[str, Any]:
    """The fields of an event; later parts lie over earlier ones."""
    if isinstance(written, dict):
        return _plain(written)
    if isinstance(written, list):
        return {path: value for part in written for path, value in _event(pack, part).items()}
    if written not in pack.fixtures:
        hint = did_you_mean(written, pack.fixtures) or "fixtures: names parts of events"
        raise Misnamed(f"there is no fixture '{written}'", "event", hint=hint)
    return _event(pack, pack.fixtures[written])


def _history(pack: SuitePack, written: History, deepest: int) -> Iterator[Before]:
    for part in [written] if isinstance(written, str) else written:
        if isinstance(part, Before):
            yield part
        elif part not in pack.histories:
            hint = did_you_mean(part, pack.histories) or "histories: names what happened before"
            raise Misnamed(f"there is no history '{part}'", "before", hint=hint)
        elif not deepest:
            raise Misnamed(f"the history '{part}' names itself, or too many others", "before")
        else:
            yield from _history(pack, pack.histories[part], deepest - 1)


def _filled(value: Any, values: Mapping[str, Any], loc: Loc) -> Any:
    """A value with its `{names}` filled in. One that is a name alone becomes the value itself, of whatever type."""
    if isinstance(value, dict):
        return {str(key): _filled(each, values, loc) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, values, loc) for each in value]
    if not isinstance(value, str):
        return value
    for name in _NAME.findall(value):
        if name not in values:
            hint = did_you_mean(name, values) or "rows: and matrix: give values for names"
            raise Misnamed(f"nothing gives a value for '{{{name}}}'", *loc, hint=hint)
    alone = _NAME.fullmatch(value)
    if alone is not None:
        return values[alone[1]]
    return _NAME.sub(lambda place: str(values[place[1]]), value)
