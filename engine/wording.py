"""What people are told about a verdict: the files `policies/notices/*.yaml`.

    notices: checkout
    about: What buyers are told about their orders.
    owner: customer-service
    for: [checkout]                      # policies; without it the file speaks for all
    verdicts:
      decline:
        title: {en: We did not accept this order, zh: …}
        what: {en: "The order {reference} was not accepted and nothing was charged.", zh: …}
    actions:
      block_card: {en: The card cannot be used here for now., zh: …}
    reasons:
      - {signals: [card_testing, bin_attack], fraud: true}     # all of fraud share the words of `fraud`
      - signals: [customs_identity]
        why: {en: The customs declaration names somebody else than the one who pays., zh: …}
        act: {en: Order and pay under the same name., zh: …}
        documents: [identity]
    documents:
      identity: {en: A proof of identity, zh: …}

What one file says for a policy goes before what a file for all says. A text that a person reads holds no number and no
name of a rule, a list or a signal: whoever wants to get past a rule learns nothing from it. What a notice must say:
Anti-Telecom-Fraud Law Art. 32, PIPL Art. 24, DSA Art. 17 and GDPR Art. 22.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import Problem, did_you_mean
from engine.packs import FORMAT_MEANS, Bilingual, Document, Form, Loc, Text, fit

ANY = "*"
"""Stands for every signal that has no words of its own."""

EVENTS = (
    *("challenge_failed", "challenge_abandoned", "challenge_late", "review_rejected", "review_late"),
    *("queue_full", "unusual", "mode"),
)
"""What may count against somebody beside signals: how a challenge or review ended, a full queue, an anomaly, a mode
that somebody switched on for everybody."""

ENDS = ("lifted", "partly", "upheld", "expired")
"""The ends of an appeal of which the person is told."""

_NAME = Form(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "write letters, digits, '_', '.' and '-', such as block_card")
_SIGNAL = Form(r"[a-z][a-z0-9_]{0,63}|\*", "write a signal's name, such as geo_mismatch, or '*' for every other one")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_DIGIT = re.compile(r"\d")

Name = Annotated[Text, _NAME]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Words(Bilingual):
    """A text that a person reads, in both languages; some show values at `{name}`."""

    def said(self, language: str, **shown: str) -> str:
        """The text in a language, its placeholders filled."""
        text = self.zh if language == "zh" else self.en
        return _PLACEHOLDER.sub(lambda place: shown[place[1]], text)


class MeasureWords(Words):
    """What a measure means for the person."""

    once: bool = Field(default=False, description="true: one act, of which nobody is told until when it holds")


class VerdictWords(_Model):
    """What is told of one verdict, or of one end of an appeal."""

    title: Words = Field(description="what happened, in a line")
    what: Words = Field(description="what was done and what it means; {reference} is the sender's id of the event")
    lasts: Words | None = Field(
        default=None, description="until when, where a proof or a person is waited for: {until}"
    )


class ReasonWords(_Model):
    """What is told of some signals: why, in words the person can act on, and what they can do."""

    signals: list[Annotated[Text, _SIGNAL]] = Field(min_length=1, description="signals; '*' is every other one")
    fraud: bool = Field(default=False, description="true: the one neutral text of `fraud` is told, and nothing else")
    why: Words | None = Field(default=None, description="why, without numbers and names of rules, lists or signals")
    act: Words | None = Field(default=None, description="what the person can do about it")
    documents: list[Name] = Field(default=[], max_length=20, description="what is wanted, by names under `documents`")


class ChangeWords(_Model):
    """How a change of one field is told to the person, without its value."""

    less: Words | None = Field(default=None, description="a smaller value, such as: a smaller amount")
    more: Words | None = Field(default=None, description="a larger value")
    other: Words | None = Field(default=None, description="another value, such as: after the account is verified")


class SaysWords(_Model):
    """Sentences that every notice is put together from."""

    fraud: Words = Field(description="the one reason that is told wherever detail would teach how to get past a rule")
    automated: Words = Field(description="the verdict came from a program alone, and what it goes by")
    by_person: Words = Field(description="a person decided")
    by_law: Words = Field(description="which law it rests on: {articles}")
    own_rules: Words = Field(description="it rests on the platform's own rules")
    until: Words = Field(description="until when a measure holds: {until}")
    no_end: Words = Field(description="a measure holds until it is lifted")
    documents: Words = Field(description="what helps to look at it again: {documents}")
    appeal: Words = Field(description="how to object: {within}, {answer}")
    human_review: Words = Field(description="that a person looks at it on request")
    no_appeal: Words = Field(description="where the policy has no part `appeal`: where to turn")


class NoticesPack(_Model):
    """What people are told about verdicts: per policy and verdict, measure and signal, in English and Chinese."""

    format: Literal[1] = Field(default=1, description=FORMAT_MEANS)
    notices: Name = Field(description="its name")
    about: Text = Field(min_length=1, max_length=2000, description="who is told what, for whoever reads it next")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    for_: list[Name] = Field(default=[], alias="for", description="the policies it speaks for; all when absent")
    verdicts: dict[Name, VerdictWords] = Field(default={}, max_length=16, description="verdict → what is told of it")
    actions: dict[Name, MeasureWords] = Field(default={}, max_length=1000, description="measure → what it means")
    ends: dict[Literal["lifted", "partly", "upheld", "expired"], VerdictWords] = Field(
        default={}, description="end of an appeal → what is told of it"
    )
    reasons: list[ReasonWords] = Field(default=[], max_length=1000, description="what is told of signals")
    documents: dict[Name, Words] = Field(default={}, max_length=200, description="name → what is wanted")
    changes: dict[Text, ChangeWords] = Field(
        default={}, max_length=200, description="field → how a change of it is told, for what would have been milder"
    )
    channel: Words | None = Field(default=None, description="where to object: a page, an address, a phone number")
    says: SaysWords | None = Field(default=None, description="the sentences that every notice is put together from")


@dataclass(frozen=True, slots=True)
class PolicyWording:
    """All that can be told about the verdicts of one policy. `reasons` are by signal, with `ANY` for the others."""

    verdicts: Mapping[str, VerdictWords] = field(default_factory=dict)
    actions: Mapping[str, MeasureWords] = field(default_factory=dict)
    ends: Mapping[str, VerdictWords] = field(default_factory=dict)
    reasons: Mapping[str, ReasonWords] = field(default_factory=dict)
    documents: Mapping[str, Words] = field(default_factory=dict)
    changes: Mapping[str, ChangeWords] = field(default_factory=dict)
    channel: Words | None = None
    says: SaysWords | None = None

    def reason(self, signal: str) -> ReasonWords | None:
        """What is told of a signal."""
        return self.reasons.get(signal) or self.reasons.get(ANY)

    def over(self, other: PolicyWording) -> PolicyWording:
        """This where it says something, else `other`."""
        return PolicyWording(
            {**other.verdicts, **self.verdicts},
            {**other.actions, **self.actions},
            {**other.ends, **self.ends},
            {**other.reasons, **self.reasons},
            {**other.documents, **self.documents},
            {**other.changes, **self.changes},
            self.channel or other.channel,
            self.says or other.says,
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """What the words may be about: of each policy its verdicts and measures; all signals; all fields; the names that a
    person's text must not give away."""

    verdicts: Mapping[str, Collection[str]]
    actions: Mapping[str, Collection[str]]
    signals: Collection[str]
    fields: Collection[str]
    inner: Collection[str]


def read_wording(documents: Iterable[Document], judged: Judged, problems: list[Problem]) -> Mapping[str, PolicyWording]:
    """Policy → what is told about its verdicts. What is wrong with the files goes to `problems`."""
    packs = []
    for document in documents:
        fits = fit(document, NoticesPack)
        wrong = [*fits.problems]
        if fits.pack is not None:
            wrong += fits.beyond(_problems(fits.document, fits.pack, judged))
            packs.append((fits.document, fits.pack))
        problems += wrong
    problems += _twice(packs)
    problems += _unwritten(packs, judged)
    common = PolicyWording()
    own = dict.fromkeys(judged.verdicts, PolicyWording())
    for _, pack in packs:
        said = _wording(pack)
        if not pack.for_:
            common = said.over(common)
        for policy in map(str, pack.for_):
            own[policy] = said.over(own.get(policy, PolicyWording()))
    return {policy: wording.over(common) for policy, wording in own.items()} if packs else {}


def _wording(pack: NoticesPack) -> PolicyWording:
    return PolicyWording(
        {str(name): each for name, each in pack.verdicts.items()},
        {str(name): each for name, each in pack.actions.items()},
        {str(name): each for name, each in pack.ends.items()},
        {str(signal): each for each in pack.reasons for signal in each.signals},
        {str(name): each for name, each in pack.documents.items()},
        {str(name): each for name, each in pack.changes.items()},
        pack.channel,
        pack.says,
    )


# What is wrong

_SHOWS: Mapping[str, frozenset[str]] = {
    "title": frozenset({"reference"}),
    "what": frozenset({"reference"}),
    "lasts": frozenset({"until"}),
    "by_law": frozenset({"articles"}),
    "until": frozenset({"until"}),
    "documents": frozenset({"documents"}),
    "appeal": frozenset({"within", "answer"}),
}
"""What each text can show, by the key it stands under; every other shows nothing."""


def _problems(document: Document, pack: NoticesPack, judged: Judged) -> Iterator[Problem]:
    yield from _names(document, pack, judged)
    for loc, words in _texts(pack):
        may = _SHOWS.get(str(loc[-1]), frozenset()) if loc[0] in ("verdicts", "ends", "says") else frozenset()
        for text in (words.en, words.zh):
            yield from _shown(text, may)
            if loc[0] not in ("documents", "channel"):
                yield from _given_away(text, judged.inner)


def _names(document: Document, pack: NoticesPack, judged: Judged) -> Iterator[Problem]:
    """Everything that is named must be there."""
    for at, policy in enumerate(pack.for_):
        if policy not in judged.verdicts:
            yield _no_such(document, ("for", at), f"there is no policy '{policy}'", policy, judged.verdicts)
    spoken = [policy for policy in (pack.for_ or judged.verdicts) if policy in judged.verdicts]
    for part, named, known in (("verdicts", pack.verdicts, judged.verdicts), ("actions", pack.actions, judged.actions)):
        there = {name for policy in spoken for name in known[policy]}
        for name in named:
            if name not in there and spoken:
                what = f"no policy that this file speaks for has the {part[:-1]} '{name}'"
                yield _no_such(document, (part, name), what, name, there, key=True)
    for at, reason in enumerate(pack.reasons):
        here: Loc = ("reasons", at)
        for place, signal in enumerate(reason.signals):
            if signal != ANY and signal not in judged.signals:
                what = f"nothing finds the signal '{signal}'"
                yield _no_such(document, (*here, "signals", place), what, signal, judged.signals)
        if reason.fraud == (reason.why is not None) or (reason.fraud and reason.act is not None):
            hint = "with 'fraud: true' the one text of says.fraud is told; else write 'why'"
            yield document.problem(here, "a reason has either its own words or 'fraud: true'", hint)
    yield from _changes(document, pack, judged)


def _changes(document: Document, pack: NoticesPack, judged: Judged) -> Iterator[Problem]:
    for path, change in pack.changes.items():
        if path not in judged.fields:
            yield _no_such(document, ("changes", path), f"there is no field '{path}'", path, judged.fields, key=True)
        if not (change.less or change.more or change.other):
            yield document.problem(("changes", path), "no words for any change", "write less, more or other")


def _no_such(document: Document, loc: Loc, what: str, name: str, known: Iterable[str], *, key: bool = False) -> Problem:
    return document.problem(loc, what, did_you_mean(name, known), key=key)


def _texts(pack: NoticesPack) -> Iterator[tuple[Loc, Words]]:
    """Every text of a file with where it stands."""
    for part, told in (("verdicts", pack.verdicts), ("ends", pack.ends)):
        for name, each in told.items():
            for key in ("title", "what", "lasts"):
                yield from _some((part, str(name), key), getattr(each, key))
    for part, texts in (("actions", pack.actions), ("documents", pack.documents)):
        for name, words in texts.items():
            yield (part, str(name)), words
    for at, reason in enumerate(pack.reasons):
        for key in ("why", "act"):
            yield from _some(("reasons", at, key), getattr(reason, key))
    for path, change in pack.changes.items():
        for key in ("less", "more", "other"):
            yield from _some(("changes", str(path), key), getattr(change, key))
    yield from _some(("channel",), pack.channel)
    for key in SaysWords.model_fields if pack.says else ():
        yield ("says", key), getattr(pack.says, key)


def _some(loc: Loc, words: Words | None) -> Iterator[tuple[Loc, Words]]:
    if words is not None:
        yield loc, words


def _shown(text: Text, may: frozenset[str]) -> Iterator[Problem]:
    for place in _PLACEHOLDER.finditer(text):
        if place[1] not in may:
            hint = "it can show " + ", ".join(f"{{{name}}}" for name in sorted(may)) if may else "it can show nothing"
            yield text.problem(place.start(), f"this text cannot show '{place[0]}'", hint, len(place[0]))
    for name in sorted(may - {place[1] for place in _PLACEHOLDER.finditer(text)} - {"reference"}):
        yield text.problem(0, f"this text must show '{{{name}}}'", "write it where the value belongs")


def _given_away(text: Text, inner: Collection[str]) -> Iterator[Problem]:
    """What would tell a fraudster where a line is drawn: a number, or how something is called inside."""
    digit = _DIGIT.search(text)
    if digit is not None:
        hint = "say it in words without the number: whoever reads it could stay just below"
        yield text.problem(digit.start(), "a person is told no number", hint)
    for word in re.finditer(r"[a-z0-9]+(?:[_.-][a-z0-9]+)+", text):
        if word[0] in inner:
            hint = "say what it means for the person"
            yield text.problem(
                word.start(), f"a person is not told '{word[0]}': it is a name of ours", hint, len(word[0])
            )


def _twice(packs: Iterable[tuple[Document, NoticesPack]]) -> Iterator[Problem]:
    """What is said for a second time of the same thing for the same policy."""
    seen: dict[tuple[str, str, str], str] = {}
    for document, pack in packs:
        for part, name, loc in _entries(pack):
            taken = [seen.setdefault((policy, part, name), "") for policy in map(str, pack.for_ or (ANY,))]
            if any(taken):
                what = f"'{name}' has its words already" if name else f"there is a part '{part}' already"
                yield document.problem(loc, what, f"they are in {max(taken)}")
            seen |= {(policy, part, name): document.file for policy in map(str, pack.for_ or (ANY,))}


def _entries(pack: NoticesPack) -> Iterator[tuple[str, str, Loc]]:
    for part in ("verdicts", "actions", "ends", "documents", "changes"):
        for name in getattr(pack, part):
            yield part, str(name), (part, name)
    for at, reason in enumerate(pack.reasons):
        for place, signal in enumerate(reason.signals):
            yield "signals", str(signal), ("reasons", at, "signals", place)
    for part in ("channel", "says"):
        if getattr(pack, part) is not None:
            yield part, "", (part,)


def _unwritten(packs: Iterable[tuple[Document, NoticesPack]], judged: Judged) -> Iterator[Problem]:
    """Documents that a reason wants and of which no file says what they are."""
    packs = list(packs)
    there = {policy: set[str]() for policy in (*judged.verdicts, ANY)}
    for _, pack in packs:
        for policy in map(str, pack.for_ or there):
            there.setdefault(policy, set()).update(map(str, pack.documents))
    for document, pack in packs:
        known = set.intersection(*(there[policy] for policy in map(str, pack.for_ or (ANY,))))
        for at, reason in enumerate(pack.reasons):
            for place, name in enumerate(reason.documents):
                if name not in known:
                    loc: Loc = ("reasons", at, "documents", place)
                    yield _no_such(document, loc, f"no file says what the document '{name}' is", name, known)
