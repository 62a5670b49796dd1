"""What the law asks of records of processing, and what of it a record does not show: findings, each with its articles.

A finding says what the records do not say; whether what they say is so, somebody must look at. What the law allows in
more ways than one is asked for in the way that a record can show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.errors import Problem
from engine.packs import Loc
from engine.processing.catalogue import CHECKS, Check
from engine.processing.own import is_sensitive, kept, own, personal
from engine.processing.pack import Processing, ProcessingPack, RecordText, under
from engine.retention import Retention
from engine.schema import FieldDef, Schema

_DAY = 86_400 * 1_000_000
_YEAR = 366 * _DAY
KEPT = 3 * _YEAR
"""How long an assessment is kept at least (PIPL Art. 56); a year of law is a calendar year, and none is longer."""
LARGE = 1_000_000
"""Persons from which on an officer is named and filed, and data that go abroad are assessed first."""
VERY_LARGE = 10_000_000
"""Persons above which an audit is due every two years."""
FEW = 100_000
"""Persons since the first of January below which data without sensitive ones may go abroad without formalities."""
FEW_SENSITIVE = 10_000
"""Persons from which on sensitive data that go abroad are assessed first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a file of records does not show: the check, the record ("" for the whole file), what it is of, and where."""

    check: Check
    record: str
    of: str
    processing: Processing
    loc: Loc

    def message(self, language: str) -> str:
        """What is told, in a language."""
        return (self.check.zh if language == "zh" else self.check.en).replace("{}", self.of)

    def problem(self, language: str = "en") -> Problem:
        """The same at its place in the file."""
        return self.processing.document.problem(self.loc, self.message(language), ", ".join(self.check.law))


class World(NamedTuple):
    """What checks look at beside the records: the schema, the retention file, and now (UTC µs)."""

    schema: Schema
    retention: Retention
    now: int


Found = Iterator[tuple[str, Loc, str]]
"""Check, place within its part, and what it is of."""


def findings(processings: Sequence[Processing], world: World) -> list[Finding]:
    """Everything that these records do not show, file by file."""
    found = [each for processing in processings for each in _of_file(processing, world)]
    if processings:
        found += _unrecorded(processings, world)
    return found


def _of_file(processing: Processing, world: World) -> Iterator[Finding]:
    pack = processing.pack
    for check, loc, of in _controller(pack, world):
        yield Finding(CHECKS[check], "", of, processing, loc)
    for number, record in enumerate(pack.records):
        case = _Case(pack, record, world)
        for look in _LOOKS:
            for check, loc, of in look(case):
                where: Loc = ("records", number, *loc)
                while not processing.document.stands(where):  # what is missing is told of what it should be in
                    where = where[:-1]
                yield Finding(CHECKS[check], str(record.id), of, processing, where)


def _unrecorded(processings: Sequence[Processing], world: World) -> Iterator[Finding]:
    """Personal fields of the schema that no record has; told of the first file."""
    for each in own(world.schema, world.retention):
        mine = [record for at in processings for record in at.pack.records if set(each.kinds) & set(record.kinds)]
        held = {str(name) for record in mine for name in record.fields}
        missing = [path for path in each.fields if not under(path, held)]
        if missing:
            shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
            yield Finding(CHECKS["unrecorded"], "", f"{each.id}: {shown}", processings[0], ("records",))


# The whole organisation


def _controller(pack: ProcessingPack, world: World) -> Found:
    who = pack.controller
    if who is None:
        yield "nobody", ("processing",), ""
        return
    at: Loc = ("controller",)
    if who.persons >= LARGE and who.officer is None:
        yield "officer", at, f"{who.persons:,}"
    if who.audited is None:
        yield "audit", at, ""
    elif who.persons > VERY_LARGE and world.now - who.audited > 2 * _YEAR:
        yield "audit-old", (*at, "audited"), f"{who.persons:,}"
    if who.trained is None or world.now - who.trained > _YEAR:
        yield "training", at, ""
    if who.incident_plan is None:
        yield "incidents", at, ""
    if who.access is None:
        yield "access", at, ""


# One record


class _Case:
    """A record with what checks ask of it."""

    def __init__(self, pack: ProcessingPack, record: RecordText, world: World) -> None:
        self.pack = pack
        self.record = record
        self.world = world
        self.purpose = pack.purposes[record.purpose]
        known = _fields(world.schema)
        self.fields: Mapping[str, FieldDef | None] = {
            path: known.get(path) for name in record.fields for path in _below(str(name), known)
        }

    @property
    def sensitive(self) -> list[str]:
        """The sensitive fields. Of another system's fields nobody here knows: there the record says it."""
        marked = [path for path, each in self.fields.items() if each is not None and is_sensitive(each)]
        return marked or (["(said so)"] if self.record.sensitive else [])

    @property
    def children(self) -> bool:
        """Whether persons under fourteen may be among them, as a field says that tells their age."""
        bands = (each.choices for each in self.fields.values() if each is not None)
        return any("under_8" in choices or "8_13" in choices for choices in bands)

    @property
    def persons(self) -> int:
        """Of how many persons there are data."""
        return self.pack.controller.persons if self.pack.controller else 0


def _fields(schema: Schema) -> dict[str, FieldDef]:
    return {path: each for kind in schema.kinds for path, each in schema.fields(kind).items()}


def _below(name: str, known: Mapping[str, FieldDef]) -> Iterable[str]:
    """The fields that a name stands for: itself, or the personal ones below it."""
    if name in known:
        return (name,)
    return [path for path, each in known.items() if under(path, (name,)) and personal(each)] or (name,)


def _purpose(case: _Case) -> Found:
    for place, name in enumerate(case.record.fields):
        more = [path for path in _below(str(name), _fields(case.world.schema)) if not under(path, case.purpose.needs)]
        if more:
            yield "needless", ("fields", place), ", ".join(more[:5])


def _basis(case: _Case) -> Found:
    record = case.record
    if record.basis is None:
        yield "basis", (), ""
    elif record.basis.evidence is None:
        yield "evidence", ("basis",), record.basis.is_
    if record.basis is None or record.basis.is_ != "consent":
        return
    if record.consent is None:
        yield "consent", ("basis",), ""
        return
    if record.consent.version < case.purpose.version:
        yield "consent-old", ("consent", "version"), f"{record.consent.version} < {case.purpose.version}"
    if record.consent.withdraw is None:
        yield "withdraw", ("consent",), ""
    if record.consent.refusal == "service" and not case.purpose.service:
        yield "forced", ("consent", "refusal"), ""


def _notice(case: _Case) -> Found:
    record, notice = case.record, case.record.notice
    if notice is None:
        yield "notice", (), ""
        return
    if notice.since > record.since:
        yield "notice-late", ("notice", "from"), ""
    if record.purpose not in notice.purposes:
        yield "notice-purpose", ("notice", "purposes"), record.purpose
    untold = [path for path in case.fields if not under(path, notice.fields)]
    if untold:
        yield "notice-fields", ("notice", "fields"), ", ".join(untold[:5])
    if notice.term is None:
        yield "notice-term", ("notice",), ""
    elif record.term is not None and notice.term < record.term:
        yield "notice-shorter", ("notice", "term"), f"{notice.term // _DAY}d < {record.term // _DAY}d"
    if not notice.rights:
        yield "notice-rights", ("notice",), ""
    if case.sensitive and not notice.sensitive:
        yield "notice-sensitive", ("notice",), ", ".join(case.sensitive[:5])


def _term(case: _Case) -> Found:
    record = case.record
    if record.term is None:
        yield "term", (), ""
        return
    for kind in record.kinds:
        of = case.world.retention.classes.get(str(kind))
        if of is None:
            yield "kept-for-ever", ("term",), str(kind)
        elif kept(of) > record.term:
            yield "kept-longer", ("term",), f"{kind}, {kept(of) // _DAY}d > {record.term // _DAY}d"


def _recipients(case: _Case) -> Found:
    record = case.record
    for place, other in enumerate(record.recipients):
        at: Loc = ("recipients", place)
        if other.role == "processor":
            if other.contract is None:
                yield "contract", at, other.name
            if other.checked is None or case.world.now - other.checked > _YEAR:
                yield "unwatched", at, other.name
            continue
        if other.consent == "none":
            yield "sharing-consent", at, other.name
        if record.notice is None or other.name not in record.notice.recipients:
            yield "sharing-told", at, other.name


def _automated(case: _Case) -> Found:
    auto = case.record.automated
    if auto is None:
        return
    at: Loc = ("automated",)
    if auto.impact == "major" and not auto.explanation:
        yield "explanation", at, ""
    if auto.impact == "major" and not auto.human:
        yield "human", at, ""
    if auto.marketing and not auto.opt_out:
        yield "opt-out", at, ""
    if auto.prices and (auto.fairness_tested is None or case.world.now - auto.fairness_tested > _YEAR):
        yield "fairness", at, ""


def _sensitive(case: _Case) -> Found:
    if case.sensitive:
        shown = ", ".join(case.sensitive[:5])
        said = case.record.sensitive
        if said is None:
            yield "necessity", ("fields",), shown
        consent = case.record.basis is not None and case.record.basis.is_ == "consent"
        if consent and (said is None or said.consent == "none"):
            yield "separate-consent", ("sensitive",), shown
        if not case.record.encrypted:
            yield "protection", (), shown
    elif not case.record.encrypted:
        yield "encryption", (), ""


def _children(case: _Case) -> Found:
    if not case.children:
        return
    said = case.record.children
    if said is None or not said.guardian:
        yield "guardian", ("children",), ""
    if said is None or said.rules is None:
        yield "children-rules", ("children",), ""


def _abroad(case: _Case) -> Found:
    for place, there in enumerate(case.record.abroad):
        at: Loc = ("abroad", place)
        if there.country == "CN":
            continue
        if there.mechanism is None:
            yield "mechanism", at, there.country
        elif there.mechanism == "few-exempt" and (there.persons >= FEW or case.sensitive):
            yield "not-few", (*at, "mechanism"), f"{there.country}, {there.persons:,}"
        elif there.mechanism in ("certification", "standard-contract") and _must_be_assessed(case, there.persons):
            yield "assess-abroad", (*at, "mechanism"), f"{there.country}, {there.persons:,}"
        if not there.told:
            yield "abroad-told", at, there.country
        basis = case.record.basis
        if basis is not None and basis.is_ == "consent" and there.consent == "none":
            yield "abroad-consent", at, there.country
        if there.authorities == "open":
            yield "authorities", at, there.country
    if case.record.abroad and case.persons >= LARGE and not _is_assessed(case):
        yield "stays-here", ("abroad",), f"{case.persons:,}"


def _must_be_assessed(case: _Case, persons: int) -> bool:
    return persons >= LARGE or (bool(case.sensitive) and persons >= FEW_SENSITIVE)


def _is_assessed(case: _Case) -> bool:
    exempt = ("assessment", "contract-exempt", "staff-exempt")
    return all(there.mechanism in exempt for there in case.record.abroad if there.country != "CN")


def _assessment(case: _Case) -> Found:
    record = case.record
    why = [
        name
        for name, there in (
            ("sensitive", bool(case.sensitive)),
            ("automated", record.automated is not None),
            ("recipients", bool(record.recipients)),
            ("abroad", bool(record.abroad)),
        )
        if there
    ]
    paper = record.assessment
    if paper is None:
        if why:
            yield "assessment", (), ", ".join(why)
        return
    if paper.on > record.since:
        yield "assessment-late", ("assessment", "on"), ""
    if paper.kept < KEPT:
        yield "assessment-kept", ("assessment", "kept"), f"{paper.kept // _DAY}d"


_LOOKS: tuple[Callable[[_Case], Found], ...] = (
    *(_purpose, _basis, _notice, _term, _recipients, _automated, _sensitive, _children, _abroad, _assessment),
)
