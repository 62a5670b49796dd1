"""Exceptions from rules, as the law of a shop: one rule or signal, one subject, a reason, an end, two persons.

    exceptions:
      - id: lab-terminal
        rule: card-testing.burst             # or signal: card_testing
        subject: {buyer.account: u-8841}     # an entity or merchant.id; several must all be so
        owner: payments-risk
        reason: Our own test laboratory; ticket 4711.
        from: 2026-11-01
        expires: 2027-01-15                  # with this day, at most 90 days
        approved_by: compliance-lead

They live in `policies/exceptions/`. A hard finding, and a signal that a mandatory clause rests on, cannot be
exempted. Packs are kept for ever, so a subject that is a person is better written as `pseudonym:3fa9…`, which the
record's owner can look up; both forms work. (In code they are exemptions, for `exception` means something else.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import PackError, Problem, did_you_mean
from engine.lists import same_person
from engine.packs import Document, Form, Loc, Since, Text, Until, fit
from engine.packs.moments import DAY, day_of
from engine.schema import FieldDef, at_path, normal
from engine.verdict import Finding

LONGEST = 90 * DAY
"""µs that an exception may last."""
MERCHANT = "merchant.id"
PSEUDONYM = "pseudonym:"

_ID = Form("[a-z0-9]+([.-][a-z0-9]+)*", "write small letters, digits, '-' and '.', such as lab-terminal")


class ExemptionText(BaseModel):
    """One exception as written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[Text, _ID] = Field(max_length=80, description="the name under which each use is recorded")
    rule: Text | None = Field(default=None, description="the id of the rule that does not count")
    signal: Text | None = Field(default=None, description="or the signal that does not count, whatever rule finds it")
    tenant: Text | None = Field(default=None, description="the one tenant it is for; without it, all")
    subject: dict[Text, Text | int] = Field(min_length=1, max_length=4, description="whom it is for")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    reason: Text = Field(min_length=1, max_length=1000, description="why it is right")
    since: Since = Field(alias="from", description="the first day")
    expires: Until = Field(description="the last day; with it, at most 90 days")
    approved_by: Text = Field(min_length=1, max_length=120, description="the second person")


class ExemptionPack(BaseModel):
    """A file of exceptions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exceptions: list[ExemptionText] = Field(description="rules that do not count for somebody, for a while")


@dataclass(frozen=True, slots=True)
class Hit:
    """A finding that did not count: the rule that gave it, and the exemption that says why."""

    rule: str
    exemption: str


@dataclass(frozen=True, slots=True)
class Exemption:
    """One exception, checked. `subject` pairs each path with its namespace ('' for none) and value in normal form."""

    id: str
    rule: str
    signal: str
    tenant: str
    subject: tuple[tuple[str, str, str], ...]
    owner: str
    approved_by: str
    since: int
    until: int

    def covers(self, finding: Finding) -> bool:
        """Whether it is about this finding. Hard findings are out of reach, whatever the files say."""
        return not finding.hard and (finding.rule == self.rule or finding.signal == self.signal)

    def meets(self, tenant: str, keys: Mapping[str, str], values: Mapping[str, Any], at: int) -> bool:
        """Whether it holds at `at` (UTC µs) for the subject of this event."""
        return (
            self.since <= at < self.until
            and self.tenant in ("", tenant)
            and all(_is_subject(path, namespace, value, keys, values) for path, namespace, value in self.subject)
        )


@dataclass(frozen=True, slots=True)
class Exemptions:
    """All exceptions of a rulebook."""

    items: tuple[Exemption, ...] = field(default=())

    def applies(
        self,
        findings: Sequence[Finding],
        *,
        tenant: str,
        keys: Mapping[str, str],
        values: Mapping[str, Any],
        at: int,
    ) -> tuple[tuple[Finding, ...], tuple[Hit, ...]]:
        """The findings that still count, and a hit for every one that does not, in the order of the findings.

        `keys` are the event's pseudonyms by path, `values` its nested values, `at` the time it was received.
        """
        if not self.items or not findings:
            return tuple(findings), ()
        met = [item for item in self.items if item.meets(tenant, keys, values, at)]
        hits = tuple(Hit(finding.rule, item.id) for finding in findings for item in met if item.covers(finding))
        kept = tuple(finding for finding in findings if not any(item.covers(finding) for item in met))
        return kept, hits

    def expired(self, at: int) -> tuple[Exemption, ...]:
        """Those that have ended and only clutter the files."""
        return tuple(item for item in self.items if item.until <= at)


def read_exemptions(
    documents: Iterable[Document],
    findings: Iterable[Finding],
    fields: Mapping[str, FieldDef],
    protected: Collection[str] = (),
    unsure: Collection[str] = (),
) -> Exemptions:
    """The exceptions of the given files. Raises PackError with every problem of every file.

    `findings` are all that rules can give, `fields` all fields of all kinds of event, and `protected` the signals
    that mandatory clauses rest on. Of names in `unsure` nobody says that they are not there: what would bring them has
    problems of its own.
    """
    checks = _Checks(tuple(findings), fields, frozenset(protected), frozenset(unsure))
    problems: list[Problem] = []
    items: list[Exemption] = []
    taken: set[str] = set()
    for document in documents:
        fits = fit(document, ExemptionPack)
        problems += fits.problems
        for index, written in enumerate(fits.pack.exceptions if fits.pack else ()):
            loc: Loc = ("exceptions", index)
            wrong = [*checks.problems(fits.document, loc, written)]
            if written.id in taken:
                what = f"there are two exceptions '{written.id}'"
                wrong.append(fits.document.problem((*loc, "id"), what, "rename one"))
            taken.add(str(written.id))
            problems += fits.beyond(wrong)
            if not problems:
                items.append(checks.exemption(written))
    if problems:
        raise PackError(problems)
    return Exemptions(tuple(sorted(items, key=lambda item: item.id)))


@dataclass(frozen=True, slots=True)
class _Checks:
    """What an exception is checked against."""

    findings: tuple[Finding, ...]
    fields: Mapping[str, FieldDef]
    protected: frozenset[str]
    unsure: frozenset[str]

    def problems(self, document: Document, loc: Loc, written: ExemptionText) -> Iterator[Problem]:
        yield from self._target(document, loc, written)
        for path, value in written.subject.items():
            yield from self._subject(document, (*loc, "subject", str(path)), str(path), value)
        if written.expires <= written.since:
            yield document.problem((*loc, "expires"), "it ends before it begins")
        elif written.expires - written.since > LONGEST:
            latest = day_of(written.since + LONGEST - DAY)  # a last day is held to its end
            hint = f"the last day can be {latest}; decide again when it comes"
            yield document.problem((*loc, "expires"), "an exception lasts 90 days at most", hint)
        if same_person(written.owner, written.approved_by):
            what = "the owner cannot approve the exception alone"
            yield document.problem((*loc, "approved_by"), what, "name a second person")

    def _target(self, document: Document, loc: Loc, written: ExemptionText) -> Iterator[Problem]:
        if (written.rule is None) == (written.signal is None):
            yield document.problem(loc, "an exception is from one rule or from one signal", "name one of the two")
            return
        name, part = (written.rule, "rule") if written.rule is not None else (written.signal, "signal")
        reached = [finding for finding in self.findings if getattr(finding, part) == name]
        if not reached and name not in self.unsure:
            known = sorted({str(getattr(finding, part)) for finding in self.findings})
            yield document.problem((*loc, part), f"there is no {part} '{name}'", did_you_mean(str(name), known))
        hard = sorted({finding.rule for finding in reached if finding.hard})
        if hard:
            what = f"{hard[0]} is hard: nothing softens it"
            yield document.problem((*loc, part), what, "delete the exception, or have the rule changed")
        mandatory = sorted({finding.signal for finding in reached} & self.protected)
        if mandatory:
            what = f"a mandatory clause rests on the signal {mandatory[0]}"
            yield document.problem((*loc, part), what, "delete the exception: the law has none")

    def _subject(self, document: Document, loc: Loc, path: str, value: str | int) -> Iterator[Problem]:
        subjects = sorted(name for name, known in self.fields.items() if known.entity or name == MERCHANT)
        if path not in self.fields:
            if path not in self.unsure:
                yield document.problem(loc, f"there is no field '{path}'", did_you_mean(path, subjects), key=True)
        elif path not in subjects:
            what = f"'{path}' does not say who it is"
            hint = "an exception is for one subject, such as buyer.account or merchant.id"
            yield document.problem(loc, what, hint, key=True)
        elif not isinstance(value, str):
            yield document.problem(loc, "a subject is text", "put quotes around it")
        elif not self._form(path, value):
            yield document.problem(loc, f"this is no {path}")

    def _form(self, path: str, value: str) -> str:
        """The value in normal form; empty where it has none."""
        if value.startswith(PSEUDONYM):
            return value if len(value) > len(PSEUDONYM) and self.fields[path].entity else ""
        try:
            return normal(self.fields[path].entity, value)
        except ValueError:
            return ""

    def exemption(self, written: ExemptionText) -> Exemption:
        return Exemption(
            id=str(written.id),
            rule=str(written.rule or ""),
            signal=str(written.signal or ""),
            tenant=str(written.tenant or ""),
            subject=tuple(
                (str(path), self.fields[path].entity, self._form(path, str(value)))
                for path, value in written.subject.items()
            ),
            owner=str(written.owner),
            approved_by=str(written.approved_by),
            since=written.since,
            until=written.expires,
        )


def _is_subject(path: str, namespace: str, value: str, keys: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    if value.startswith(PSEUDONYM):
        return keys.get(path) == value.removeprefix(PSEUDONYM)
    found = at_path(values, path)
    return isinstance(found, str) and normal(namespace, found) == value
