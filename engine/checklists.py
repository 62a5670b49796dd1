"""Compliance checklists: what is to be done, which article asks for it, and how one sees that it is.

    checklist: ecommerce-platform
    name: {en: Duties of a platform, zh: 平台义务}
    about: What the E-Commerce Law asks of who runs a platform.
    owner: compliance
    items:
      - id: listing-rules
        asks: {en: Prohibited goods are found and stopped, zh: 发现并拦截禁止交易的商品}
        law: [cn.ecl.13, cn.ecl.29]
        check: {rules: [prohibited.category]}
      - id: verify-merchants
        asks: {en: Every merchant was verified within six months, zh: 每六个月核验全部商家}
        law: [cn.ecl.27]
        role: merchant-compliance
        evidence: {en: the list of merchants with the day of the last check, zh: 附最近核验日期的商家清单}
        every: 180d

An item with `check` is answered by the rulebook itself. One with `role` is answered by a person, who records the result
and the hashes of the evidence (`arbiter compliance record`); it is due again after `every`, and first on `due`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import Problem, did_you_mean
from engine.packs import FORMAT_MEANS, LAW_ID, Bilingual, Document, Form, Loc, Text, fit
from engine.packs.durations import Duration
from engine.retention import Term

_NAME = Form("[a-z0-9]+(-[a-z0-9]+)*", "write small letters, digits and '-', such as verify-merchants")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeptText(_Model):
    """What the retention file must keep, and how long at least."""

    kind: Text = Field(description="a kind of event")
    term: Term = Field(alias="for", description="how long its personal data is kept at least: 3y")


class CheckText(_Model):
    """What the rulebook itself answers: all that stands here must be so."""

    rules: list[Text] = Field(default=[], max_length=200, description="rules that are live for everybody, with tests")
    invariants: list[Text] = Field(
        default=[], max_length=200, description="what a policy promises of every event: listing.banned-goods-never-show"
    )
    kept: list[KeptText] = Field(default=[], max_length=50, description="what the retention file keeps")


class ItemText(_Model):
    """One thing to be done."""

    id: Annotated[Text, _NAME] = Field(max_length=64, description="its name in the checklist")
    asks: Bilingual = Field(description="what must be so, as a sentence")
    law: list[Annotated[Text, LAW_ID]] = Field(default=[], description="the articles that ask for it")
    as_of: date | None = Field(default=None, description="the day whose law it was written for")
    check: CheckText | None = Field(default=None, description="how the rulebook answers it")
    role: Text | None = Field(default=None, max_length=120, description="who answers it, where a person does")
    evidence: Bilingual | None = Field(default=None, description="what that person lays beside it")
    every: Duration | None = Field(default=None, description="after how long it is to be done again")
    due: date | None = Field(default=None, description="the day by which it is to be done first")


class ChecklistPack(_Model):
    """A checklist."""

    format: int = Field(default=1, ge=1, le=1, description=FORMAT_MEANS)
    checklist: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    name: Bilingual = Field(description="what it is called")
    about: Text = Field(min_length=1, max_length=2000, description="what it is for, for whoever reads it next")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    items: list[ItemText] = Field(min_length=1, max_length=500, description="what is to be done")


@dataclass(frozen=True, slots=True)
class Check:
    """What the rulebook answers: rules, promises as (policy, invariant), and (kind of event, µs) that are kept."""

    rules: tuple[str, ...]
    invariants: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to be done. `every` is in µs, None where once is enough; one of `check` and `role` is there."""

    id: str
    asks: Mapping[str, str]
    law: tuple[str, ...]
    check: Check | None
    role: str | None
    evidence: Mapping[str, str] | None
    every: int | None
    due: date | None


@dataclass(frozen=True, slots=True)
class Checklist:
    """A checklist with its items in order."""

    id: str
    name: Mapping[str, str]
    about: str
    owner: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What checks may name: rules, invariants as (policy, id), kinds of event; and `unsure`, names that files which
    could not be read may bring."""

    rules: Collection[str]
    invariants: Collection[tuple[str, str]]
    kinds: Collection[str]
    unsure: Collection[str] = ()


def read_checklists(documents: Iterable[Document], known: Known, problems: list[Problem]) -> tuple[Checklist, ...]:
    """The checklists of the given files; what is wrong with them goes to `problems`."""
    found: dict[str, Checklist] = {}
    for document in documents:
        fits = fit(document, ChecklistPack)
        problems.extend(fits.problems)
        if fits.pack is None:
            continue
        problems.extend(fits.beyond(_problems(fits.document, fits.pack, known, found)))
        found[str(fits.pack.checklist)] = _checklist(fits.pack)
    return tuple(found.values())


def _problems(document: Document, pack: ChecklistPack, known: Known, others: Collection[str]) -> Iterator[Problem]:
    if pack.checklist in others:
        yield document.problem(("checklist",), f"there is another checklist '{pack.checklist}'", "give it another name")
    seen: set[str] = set()
    for index, item in enumerate(pack.items):
        loc: Loc = ("items", index)
        if item.id in seen:
            yield document.problem((*loc, "id"), f"there is another item '{item.id}'", "give it another name")
        seen.add(str(item.id))
        if (item.check is None) == (item.role is None):
            what = "an item is answered either by the rulebook, with check:, or by a person, with role:"
            yield document.problem(loc, what, "write one of both")
        if item.check is None and item.role is not None and item.evidence is None:
            yield document.problem(loc, "a person who answers it lays evidence beside it", "add evidence: with what")
        for key in ("evidence", "every", "due"):
            if item.check is not None and getattr(item, key) is not None:
                what = f"what the rulebook answers is asked each time, so it has no '{key}'"
                yield document.problem((*loc, key), what, f"take {key} out, or write role: in the place of check:")
        if item.check is not None:
            yield from _check_problems(document, (*loc, "check"), item.check, known)


def _check_problems(document: Document, loc: Loc, check: CheckText, known: Known) -> Iterator[Problem]:
    if not (check.rules or check.invariants or check.kept):
        yield document.problem(loc, "this check asks nothing", "name rules, invariants, or what is kept")
    for index, rule in enumerate(check.rules):
        if rule not in known.rules and rule not in known.unsure:
            what = f"there is no rule '{rule}'"
            yield document.problem((*loc, "rules", index), what, did_you_mean(rule, known.rules))
    promised = {".".join(each) for each in known.invariants}
    for index, name in enumerate(check.invariants):
        if name not in promised and name.partition(".")[2] not in known.unsure:
            hint = did_you_mean(name, promised) or "write the policy, a dot and the invariant"
            yield document.problem((*loc, "invariants", index), f"no policy promises '{name}'", hint)
    for index, kept in enumerate(check.kept):
        if kept.kind not in known.kinds:
            what = f"there is no kind of event '{kept.kind}'"
            yield document.problem((*loc, "kept", index, "kind"), what, did_you_mean(kept.kind, known.kinds))


def _checklist(pack: ChecklistPack) -> Checklist:
    items = (
        Item(
            id=str(item.id),
            asks=item.asks.plain,
            law=tuple(map(str, item.law)),
            check=None if item.check is None else _check(item.check),
            role=None if item.role is None else str(item.role),
            evidence=None if item.evidence is None else item.evidence.plain,
            every=item.every,
            due=item.due,
        )
        for item in pack.items
    )
    return Checklist(str(pack.checklist), pack.name.plain, str(pack.about), str(pack.owner), tuple(items))


def _check(check: CheckText) -> Check:
    pairs = (name.partition(".") for name in map(str, check.invariants))
    return Check(
        tuple(map(str, check.rules)),
        tuple((policy, invariant) for policy, _, invariant in pairs),
        tuple((str(kept.kind), kept.term) for kept in check.kept),
    )
