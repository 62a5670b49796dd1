"""The law that rules and policies cite: articles in their versions, as data that officers keep (`policies/law/*.yaml`).

    law: cn.aucl
    about: Fair competition; fake trade, fake reviews and misleading promotion.
    owner: compliance
    name: {en: Anti-Unfair Competition Law, zh: 反不正当竞争法}
    country: CN
    source: where its articles were read
    articles:
      - id: cn.aucl.9
        name: {en: False or misleading promotion, zh: 虚假或引人误解的商业宣传}
        versions:
          - {number: "8", from: 2018-01-01, to: 2025-10-14, duty: {en: …, zh: …}, verified: true}
          - {number: "9", from: 2025-10-15, duty: {en: …, zh: …}, penalty: cn.aucl.25, verified: true}

An id means one provision, whatever its number was; it is named after the number of its newest version. The day of the
conduct picks the version, for nobody breaks a law that is not there yet. Days are those of Asia/Shanghai.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import Problem, did_you_mean
from engine.packs import FORMAT_MEANS, LAW_ID, Bilingual, Document, Form, Loc, Text, fit

_LAW = Form(r"[a-z]{2}\.[a-z0-9]+", "write country and law, such as cn.ecl")
_COUNTRY = Form(r"[A-Z]{2}", "write two capital letters, such as CN or EU")
_SHA256 = Form(r"[0-9a-f]{64}", "write 64 hexadecimal digits")
_NUMBER = Form(r"[0-9A-Za-z]+([.()-][0-9A-Za-z]+)*\)?", "write the number in the law's own counting, such as 9 or 31-2")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class VersionText(_Model):
    """One version of an article, from the day it came into force."""

    number: Annotated[Text, _NUMBER] = Field(max_length=20, description="the article's number in this version")
    since: date = Field(alias="from", description="the first day in force")
    until: date | None = Field(default=None, alias="to", description="the last day in force; absent: still in force")
    duty: Bilingual = Field(description="what it asks, in our own words")
    penalty: Annotated[Text, LAW_ID] | None = Field(
        default=None, description="the article that says what a breach costs, by its id"
    )
    source: Text | None = Field(default=None, max_length=300, description="where it was read, if not where the others")
    sha256: Annotated[Text, _SHA256] | None = Field(
        default=None, description="of the article's text as read: NFC, all white space taken out, UTF-8"
    )
    verified: bool = Field(description="whether somebody compared this with the text of the law")
    open: Text | None = Field(default=None, max_length=300, description="what is not verified, where something is")


class ArticleText(_Model):
    """An article of the law, in all its versions."""

    id: Annotated[Text, LAW_ID] = Field(max_length=40, description="law, a dot, and the number of its newest version")
    name: Bilingual = Field(description="what it is about, in a few words")
    versions: list[VersionText] = Field(min_length=1, max_length=50, description="oldest first")


class LawPack(_Model):
    """A law and its articles."""

    format: int = Field(default=1, ge=1, le=1, description=FORMAT_MEANS)
    law: Annotated[Text, _LAW] = Field(max_length=20, description="its name in ids: cn.ecl")
    about: Text = Field(min_length=1, max_length=2000, description="what it governs")
    owner: Text = Field(min_length=1, max_length=120, description="who keeps this file")
    name: Bilingual = Field(description="the law's name")
    country: Annotated[Text, _COUNTRY] = Field(description="whose law it is: CN, EU, US")
    source: Text = Field(min_length=1, max_length=300, description="where its articles were read")
    articles: list[ArticleText] = Field(min_length=1, max_length=2000, description="its articles")


@dataclass(frozen=True, slots=True)
class Law:
    """A law: its name in ids, its names by language, whose it is."""

    id: str
    name: Mapping[str, str]
    country: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """An article as it was in force from `since` to `until` (both included; None: still)."""

    number: str
    since: date
    until: date | None
    duty: Mapping[str, str]
    penalty: str | None
    source: str
    sha256: str | None
    verified: bool
    open: str | None

    def holds(self, day: date) -> bool:
        """Whether it was in force on that day."""
        return self.since <= day and (self.until is None or day <= self.until)


@dataclass(frozen=True, slots=True)
class Article:
    """An article in all its versions, oldest first."""

    id: str
    law: Law
    name: Mapping[str, str]
    versions: tuple[Version, ...]

    def on(self, day: date) -> Version | None:
        """The version that was in force on that day."""
        return next((version for version in self.versions if version.holds(day)), None)


@dataclass(frozen=True)
class LawTable:
    """All articles by id. An empty one knows nothing: whoever cites is then believed."""

    articles: Mapping[str, Article] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.articles)

    def on(self, id: str, day: date) -> Version | None:
        """The version of an article that was in force on that day; None where there was none."""
        article = self.articles.get(id)
        return article.on(day) if article else None

    def cited(self, ids: Iterable[str], conduct: date, decision: date) -> list[dict[str, Any]]:
        """What a record says of the articles behind a reason: each as it was when the conduct happened.

        `number`, `from` and `verified` are None where it was not in force then. `decision` is the version of the day of
        the decision, where that is another one.
        """
        return [self._cited(id, conduct, decision) for id in ids]

    def _cited(self, id: str, conduct: date, decision: date) -> dict[str, Any]:
        then, now = self.on(id, conduct), self.on(id, decision)
        return {
            "id": id,
            **_named(then),
            "verified": then.verified if then else None,
            **({} if then is now else {"decision": _named(now)}),
        }

    def told(self, ids: Iterable[str], conduct: date, decision: date) -> list[dict[str, Any]]:
        """`cited`, with what a person reads of each: the law, what the article is about, what it asked and asks."""
        return [each | self._told(each["id"], conduct) for each in self.cited(ids, conduct, decision)]

    def _told(self, id: str, conduct: date) -> dict[str, Any]:
        article = self.articles.get(id)
        if article is None:
            return {}
        then = article.on(conduct)
        return {
            "law": dict(article.law.name),
            "name": dict(article.name),
            "duty": dict(then.duty) if then else None,
            "penalty": then.penalty if then else None,
            "open": then.open if then else None,
        }

    def shown(self, id: str) -> dict[str, Any]:
        """An article in all its versions, for whoever asks for it. KeyError where there is none."""
        article = self.articles[id]
        return {
            "id": article.id,
            "law": {"id": article.law.id, "name": dict(article.law.name), "country": article.law.country},
            "name": dict(article.name),
            "versions": [_shown(version) for version in article.versions],
        }


def _shown(version: Version) -> dict[str, Any]:
    return {
        **_named(version),
        "to": version.until.isoformat() if version.until else None,
        "duty": dict(version.duty),
        "penalty": version.penalty,
        "source": version.source,
        "sha256": version.sha256,
        "verified": version.verified,
        "open": version.open,
    }


def _named(version: Version | None) -> dict[str, str | None]:
    return {
        "number": version.number if version else None,
        "from": version.since.isoformat() if version else None,
    }


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a file cites an article; `as_of` is the day whose law it was written for."""

    document: Document
    loc: Loc
    id: str
    as_of: date | None = None


def read_law(documents: Iterable[Document], problems: list[Problem]) -> LawTable:
    """The table in the given files; what is wrong with them goes to `problems`."""
    articles: dict[str, Article] = {}
    penalties: list[Citation] = []
    for document in documents:
        fits = fit(document, LawPack)
        problems.extend(fits.problems)
        if fits.pack is None:
            continue
        problems.extend(fits.beyond(_problems(fits.document, fits.pack, articles)))
        articles |= {article.id: article for article in _articles(fits.pack)}
        penalties += _penalties(fits.document, fits.pack)
    table = LawTable(articles)
    problems.extend(unknown(table, penalties))
    return table


def citations(document: Document) -> Iterator[Citation]:
    """Where a file of any kind cites articles: `law: [cn.ecl.13, …]`, beside it maybe `as_of: DAY`, or
    `basis: cn.ecl.13`."""
    return _citations(document, (), document.data)


def _citations(document: Document, loc: Loc, data: Any) -> Iterator[Citation]:
    if isinstance(data, list):
        for index, each in enumerate(data):
            yield from _citations(document, (*loc, index), each)
    if not isinstance(data, dict):
        return
    if isinstance(law := data.get("law"), list):
        as_of = _day(data.get("as_of"))
        for index, id in enumerate(law):
            if _is_id(id):
                yield Citation(document, (*loc, "law", index), str(id), as_of)
    if _is_id(basis := data.get("basis")):
        yield Citation(document, (*loc, "basis"), str(basis))
    for key, value in data.items():
        yield from _citations(document, (*loc, key), value)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(LAW_ID.pattern, value) is not None


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return None


def unknown(table: LawTable, citations: Iterable[Citation]) -> Iterator[Problem]:
    """A problem for each citation of what is not in the table, or was not in force when it was written for."""
    for each in citations:
        article = table.articles.get(each.id)
        if article is None:
            hint = did_you_mean(each.id, table.articles) or "add it to the law's file under policies/law"
            yield each.document.problem(each.loc, f"there is no article '{each.id}' in the table of law", hint)
        elif each.as_of is not None and article.on(each.as_of) is None:
            first = article.versions[0].since
            what = f"'{each.id}' was not in force on {each.as_of}"
            yield each.document.problem(each.loc, what, f"its first version is in force from {first}")


def lagging(table: LawTable, citations: Iterable[Citation], today: date) -> Iterator[Problem]:
    """What somebody should look at: citations of what is not in force today, or changed since they were written."""
    for each in citations:
        article = table.articles.get(each.id)
        if article is None:
            continue
        now = article.on(today)
        written = article.on(each.as_of) if each.as_of is not None else None
        if now is None:
            yield each.document.problem(each.loc, f"'{each.id}' is not in force today, {today}", _when(article, today))
        elif written is not None and written is not now:
            what = f"'{each.id}' has changed since {each.as_of}: Art. {now.number} is in force from {now.since}"
            yield each.document.problem(each.loc, what, "read what it asks now, then set as_of to the day of today")


def _when(article: Article, today: date) -> str:
    last = article.versions[-1]
    if last.since > today:
        return f"it comes into force on {last.since}"
    return f"its last day was {last.until}; cite what stands in its place"


def _articles(pack: LawPack) -> Iterator[Article]:
    law = Law(str(pack.law), pack.name.plain, str(pack.country), str(pack.about))
    for article in pack.articles:
        versions = tuple(
            Version(
                number=str(each.number),
                since=each.since,
                until=each.until,
                duty=each.duty.plain,
                penalty=str(each.penalty) if each.penalty else None,
                source=str(each.source or pack.source),
                sha256=str(each.sha256) if each.sha256 else None,
                verified=each.verified,
                open=str(each.open) if each.open else None,
            )
            for each in article.versions
        )
        yield Article(str(article.id), law, article.name.plain, versions)


def _penalties(document: Document, pack: LawPack) -> Iterator[Citation]:
    for place, article in enumerate(pack.articles):
        for index, version in enumerate(article.versions):
            if version.penalty:
                loc = ("articles", place, "versions", index, "penalty")
                yield Citation(document, loc, str(version.penalty))


def _problems(document: Document, pack: LawPack, known: Mapping[str, Article]) -> Iterator[Problem]:
    seen = set(known)
    for place, article in enumerate(pack.articles):
        loc = ("articles", place, "id")
        if not article.id.startswith(f"{pack.law}."):
            yield document.problem(loc, f"'{article.id}' is no article of {pack.law}", f"begin it with {pack.law}.")
        if article.id in seen:
            yield document.problem(
                loc, f"there is an article '{article.id}' already", "give it one entry, with versions"
            )
        seen.add(str(article.id))
        yield from _version_problems(document, ("articles", place, "versions"), article.versions)


def _version_problems(document: Document, loc: Loc, versions: Sequence[VersionText]) -> Iterator[Problem]:
    for index, version in enumerate(versions):
        at = (*loc, index)
        before = versions[index - 1] if index else None
        if version.until is not None and version.until < version.since:
            yield document.problem((*at, "to"), "this version ends before it begins", f"it begins on {version.since}")
        if before is not None and (before.until is None or before.until >= version.since):
            hint = "versions stand oldest first; say with to: the last day of the one before"
            yield document.problem((*at, "from"), "the version before it is still in force on this day", hint)
        if not version.verified and version.open is None:
            yield document.problem(at, "what is not verified says what is open", "add open: with what is from memory")
        if version.verified and version.open is not None:
            hint = "write verified: false, or take open: out"
            yield document.problem((*at, "open"), "what is verified leaves nothing open", hint)
