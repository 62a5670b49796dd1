"""Arbiter's own records of processing, out of the marks of its schema and the retention file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.retention import Class, Retention
from engine.schema import FieldDef, Schema

_DAY = 86_400 * 1_000_000
FINANCIAL = frozenset({"card", "payer", "payout_account"})
"""Entities that name a financial account, which PIPL Art. 28 counts among sensitive information."""


@dataclass(frozen=True, slots=True)
class Own:
    """What the schema and the retention file say of one class of data: kinds of event, whose data, which fields, and
    how long they are kept (µs)."""

    id: str
    kinds: tuple[str, ...]
    subjects: tuple[str, ...]
    fields: tuple[str, ...]
    term: int


def personal(field: FieldDef) -> bool:
    """Whether a field holds data about a person, as its mark says: free text may."""
    return field.privacy != "public"


def is_sensitive(field: FieldDef) -> bool:
    """Whether it is sensitive (PIPL Art. 28): marked so, or the reference of a financial account."""
    return field.privacy == "sensitive" or field.entity in FINANCIAL


def kept(of: Class) -> int:
    """How long data of a class are kept (µs): what is sealed, or the pseudonyms that name the same person (PIPL Art. 73
    calls those de-identified, not anonymous)."""
    return max(of.personal, of.pseudonyms)


def own(schema: Schema, retention: Retention) -> tuple[Own, ...]:
    """One for each class of the retention file, in its order; kinds in no class are one more, kept for ever (0)."""
    kinds: dict[str, list[str]] = {}
    terms = {"unclassed": 0}
    for kind in schema.kinds:
        found = retention.classes.get(kind)
        name = "unclassed" if found is None else str(found.id)
        kinds.setdefault(name, []).append(kind)
        if found is not None:
            terms[name] = kept(found)
    return tuple(_own(name, mine, terms[name], schema) for name, mine in kinds.items())


def _own(name: str, kinds: list[str], term: int, schema: Schema) -> Own:
    fields = {path: each for kind in kinds for path, each in _carried(kind, schema).items() if personal(each)}
    subjects = {each.subject for each in fields.values()}
    return Own(name, tuple(kinds), tuple(sorted(subjects)), tuple(sorted(fields)), term)


def _carried(kind: str, schema: Schema) -> Mapping[str, FieldDef]:
    """What an event of this kind brings. An outcome takes over the fields of its event, which are recorded there."""
    return schema.body_fields(kind) if kind == "outcome" else schema.fields(kind)


def written(owned: Iterable[Own]) -> str:
    """The generated parts of records, as a file of records has them."""
    lines = ["records:"]
    for each in owned:
        lines += [f"  - id: {each.id}", "    purpose: fraud", f"    kinds: [{', '.join(each.kinds)}]"]
        lines += [f"    subjects: [{', '.join(each.subjects)}]", "    fields:"]
        lines += [f"      - {path}" for path in each.fields]
        lines += [f"    term: {each.term // _DAY}d"] if each.term else []
    return "\n".join(lines) + "\n"
