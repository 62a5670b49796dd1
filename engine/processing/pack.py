"""Records of processing as files have them: the keys, and what must fit together for a file to mean anything.

processing: shop
about: Which personal data this installation processes, for what, on which basis.
owner: privacy
controller:
  name: {en: Example Mall, zh: 示例商城}
  contact: privacy@example.com
  persons: 250000
purposes:
  fraud:
    says: {en: Recognise and stop fraud, zh: 识别并阻止欺诈}
    needs: [buyer, device, ip, card]      # fields, and all below them
records:
  - id: orders
    purpose: fraud
    fields: [buyer.account, device.id]
    basis: {is: contract, evidence: terms of sale 3.2}
    …
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import Problem, did_you_mean
from engine.packs import Bilingual, Document, Form, Since, Text, fit
from engine.retention import Term

_NAME = Form("[a-z][a-z0-9-]*", "write small letters, digits and '-', such as orders")
Basis = Literal["consent", "contract", "law", "emergency", "news", "published", "other"]
"""The seven of PIPL Art. 13, in its order."""
Mechanism = Literal["assessment", "certification", "standard-contract", "contract-exempt", "staff-exempt", "few-exempt"]
"""PIPL Art. 38, and the exemptions of the provisions of 2024 on data that crosses the border."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class OfficerText(_Model):
    """Who answers for personal information in a large organisation."""

    filed: Since = Field(description="the day on which the authority was told")


class ControllerText(_Model):
    """Whose records these are, and what holds for all of them."""

    name: Bilingual = Field(description="the name that persons are given")
    contact: Text = Field(min_length=3, max_length=200, description="where persons reach whoever answers")
    persons: int = Field(strict=True, ge=0, description="of how many persons there are data")
    officer: OfficerText | None = Field(default=None, description="the officer for personal information")
    audited: Since | None = Field(default=None, description="the day of the last audit")
    trained: Since | None = Field(default=None, description="the day of the last training of staff")
    incident_plan: Since | None = Field(default=None, description="the day since which there is an incident plan")
    access: Text | None = Field(default=None, max_length=500, description="who may see what, and who grants it")


class PurposeText(_Model):
    """What data are processed for."""

    says: Bilingual = Field(description="the purpose, as persons read it")
    needs: list[Text] = Field(min_length=1, description="fields that it needs, or what they begin with")
    version: int = Field(default=1, strict=True, ge=1, description="raised whenever what is done for it changes")
    service: bool = Field(default=True, description="whether the service cannot be given without it")


class BasisText(_Model):
    """Why it is lawful."""

    is_: Basis = Field(alias="is", description="one of the seven of PIPL Art. 13")
    evidence: Text | None = Field(default=None, max_length=500, description="where that can be seen")


class ConsentText(_Model):
    """The consent that persons give."""

    version: int = Field(strict=True, ge=1, description="the version of the purpose that they agreed to")
    withdraw: Text | None = Field(default=None, max_length=500, description="how it is withdrawn")
    refusal: Literal["nothing", "service"] = Field(description="what they lose who do not agree")


class NoticeText(_Model):
    """What persons are told."""

    version: Text = Field(min_length=1, max_length=40, description="which notice it is")
    since: Since = Field(alias="from", description="the day since which it is given")
    purposes: list[Text] = Field(description="the purposes that it names")
    fields: list[Text] = Field(description="the fields that it covers, or what they begin with")
    term: Term | None = Field(default=None, description="how long it says data are kept")
    rights: bool = Field(default=False, description="whether it says what rights persons have, and how to use them")
    sensitive: bool = Field(
        default=False, description="whether it says why sensitive data are needed, and what comes of it"
    )
    recipients: list[Text] = Field(default=[], description="recipients that it names")


class RecipientText(_Model):
    """Who else gets the data."""

    name: Text = Field(min_length=1, max_length=120, description="its name")
    role: Literal["processor", "controller"] = Field(description="works on instruction, or decides by itself")
    contract: Text | None = Field(default=None, max_length=200, description="the agreement on purpose, term, measures")
    checked: Since | None = Field(default=None, description="the day on which it was last looked at")
    consent: Literal["separate", "none", "law"] = Field(
        default="none", description="what persons agreed to; `law` where a law asks for it"
    )


class AutomatedText(_Model):
    """Decisions that a machine makes about persons."""

    impact: Literal["major", "minor"] = Field(description="how much they weigh for the person")
    explanation: bool = Field(default=False, description="whether the person is told why, on request")
    human: bool = Field(default=False, description="whether a person looks at it, on request")
    prices: bool = Field(default=False, description="whether prices or terms depend on them")
    fairness_tested: Since | None = Field(default=None, description="the day of the last test of fairness")
    marketing: bool = Field(default=False, description="whether offers or advertising depend on them")
    opt_out: bool = Field(default=False, description="whether marketing without personal traits can be had")


class SensitiveText(_Model):
    """What is said of sensitive data."""

    necessity: Bilingual = Field(description="why the purpose cannot do without them")
    consent: Literal["separate", "none"] = Field(description="what persons agreed to")


class ChildrenText(_Model):
    """What is said of persons under fourteen."""

    guardian: bool = Field(description="whether a guardian agrees")
    rules: Text | None = Field(default=None, max_length=200, description="the special rules for their data")


class AbroadText(_Model):
    """Data that leave the country."""

    country: Text = Field(min_length=2, max_length=2, description="where they go, such as SG")
    mechanism: Mechanism | None = Field(default=None, description="which way of PIPL Art. 38, or which exemption")
    persons: int = Field(strict=True, ge=0, description="of how many persons since the first of January")
    told: bool = Field(default=False, description="whether persons are told who gets what there, and how to reach them")
    consent: Literal["separate", "none"] = Field(default="none", description="what persons agreed to")
    authorities: Literal["approved", "open"] = Field(
        default="open", description="whether foreign courts and police get data only after approval"
    )


class AssessmentText(_Model):
    """The assessment of what it does to persons (PIPIA)."""

    paper: Text = Field(min_length=1, max_length=200, description="where it is")
    on: Since = Field(description="the day on which it was made")
    kept: Term = Field(description="how long it is kept")


class RecordText(_Model):
    """One record: what is processed, of whom, what for, and all that the law wants to be said of it."""

    id: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    purpose: Text = Field(description="one of the purposes above")
    kinds: list[Text] = Field(default=[], description="kinds of event that carry the data")
    subjects: list[Text] = Field(min_length=1, description="whose data: buyer, recipient, seller, referrer, staff …")
    fields: list[Text] = Field(min_length=1, description="the fields, as docs/events.md has them")
    since: Since = Field(description="the day since which it is done")
    term: Term | None = Field(default=None, description="how long the data are kept")
    encrypted: bool = Field(default=False, description="whether they are encrypted where they lie")
    basis: BasisText | None = Field(default=None, description="why it is lawful")
    consent: ConsentText | None = Field(default=None, description="the consent, where that is the basis")
    notice: NoticeText | None = Field(default=None, description="what persons are told")
    recipients: list[RecipientText] = Field(default=[], max_length=200, description="who else gets them")
    automated: AutomatedText | None = Field(default=None, description="decisions that a machine makes with them")
    sensitive: SensitiveText | None = Field(default=None, description="what is said of sensitive data")
    children: ChildrenText | None = Field(default=None, description="what is said of persons under fourteen")
    abroad: list[AbroadText] = Field(default=[], max_length=100, description="where they leave the country")
    assessment: AssessmentText | None = Field(default=None, description="the assessment of what it does to persons")


class ProcessingPack(_Model):
    """Records of processing personal information."""

    processing: Text = Field(min_length=1, max_length=100, description="its name")
    about: Text = Field(min_length=1, max_length=2000, description="what these records are of, for whoever reads next")
    owner: Text = Field(min_length=1, max_length=120, description="who keeps them")
    controller: ControllerText | None = Field(default=None, description="whose records these are")
    purposes: dict[Annotated[Text, _NAME], PurposeText] = Field(min_length=1, description="what data are processed for")
    records: list[RecordText] = Field(min_length=1, max_length=500, description="the records")


@dataclass(frozen=True)
class Processing:
    """A file of records, as far as it fits, and where its parts stand."""

    pack: ProcessingPack
    document: Document


def under(path: str, names: Iterable[str]) -> bool:
    """Whether a field is one of these, or lies below one."""
    return any(path == name or path.startswith(f"{name}.") for name in names)


def read_processing(
    documents: Iterable[Document], fields: Mapping[str, Any], kinds: Collection[str], problems: list[Problem]
) -> tuple[Processing, ...]:
    """The records of the given files; what is wrong with them goes to `problems`. `fields` are those of the schema."""
    found: list[Processing] = []
    seen: dict[str, str] = {}
    for document in documents:
        fits = fit(document, ProcessingPack)
        wrong = [*fits.problems]
        if fits.pack is not None:
            wrong += fits.beyond(_problems(fits.document, fits.pack, fields, kinds, seen))
            if not wrong:
                found.append(Processing(fits.pack, fits.document))
        problems += wrong
    return tuple(found)


def _problems(
    document: Document,
    pack: ProcessingPack,
    fields: Mapping[str, Any],
    kinds: Collection[str],
    seen: dict[str, str],
) -> Iterator[Problem]:
    for name, purpose in pack.purposes.items():
        yield from _no_field(document, ("purposes", str(name), "needs"), purpose.needs, fields)
    for number, record in enumerate(pack.records):
        at: tuple[Any, ...] = ("records", number)
        if record.id in seen:
            what = f"there is a record '{record.id}' already"
            yield document.problem((*at, "id"), what, f"it is in {seen[str(record.id)]}")
        seen[str(record.id)] = document.file
        named: list[tuple[tuple[Any, ...], Text]] = [(("purpose",), record.purpose)]
        told = record.notice.purposes if record.notice else ()
        named += [(("notice", "purposes", place), each) for place, each in enumerate(told)]
        for loc, name in named:
            if name not in pack.purposes:
                hint = did_you_mean(name, pack.purposes) or "one of " + ", ".join(pack.purposes)
                yield document.problem((*at, *loc), f"there is no purpose '{name}' above", hint)
        for place, kind in enumerate(record.kinds):
            if kind not in kinds:
                hint = did_you_mean(kind, kinds) or "one of " + ", ".join(kinds)
                yield document.problem((*at, "kinds", place), f"there is no kind of event '{kind}'", hint)
        # Other systems have other fields; where kinds of event are named, the data are Arbiter's.
        if record.kinds:
            yield from _no_field(document, (*at, "fields"), record.fields, fields)


def _no_field(
    document: Document, loc: tuple[Any, ...], names: Iterable[str], fields: Mapping[str, Any]
) -> Iterator[Problem]:
    heads = {path.rpartition(".")[0] for path in fields} - {""}
    for place, name in enumerate(names):
        if name not in fields and name not in heads and "." in name:
            hint = did_you_mean(name, [*fields, *heads])
            yield document.problem((*loc, place), f"there is no field '{name}'", hint)
