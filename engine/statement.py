"""The statement of reasons of a verdict, computed from its records and the rulebook they pin, so that it can be made
again later, word for word.

    statement(case, rulebook, "person", "zh")      what the person is told: words alone
    statement(case, rulebook, "officer", "en")     the same, and everything that is behind it
    public_statement(case, rulebook)               without personal data, for whoever publishes statements

What it must say: Anti-Telecom-Fraud Law Art. 32 ¶3 (reason, remedy, documents), PIPL Art. 24 (why, and a person on
request), GDPR Art. 22 and 15(1)(h) with CJEU C-203/22 (the procedure and principles, in words), DSA Art. 17(3)
(measure, scope, duration, facts, means, ground, redress).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from engine.cases import Case, by_person, due_of, is_against, policy_of
from engine.errors import Conflict, NotFound
from engine.jcs import canonical
from engine.law import Version
from engine.packs import LAW_ID
from engine.packs.durations import MICROSECONDS
from engine.packs.moments import BEIJING, day_of
from engine.policy import Policy
from engine.rulebook import Rulebook
from engine.verdict import SEVERITIES
from engine.wording import ANY, ENDS, PolicyWording, ReasonWords, SaysWords, VerdictWords, Words

Audience = Literal["person", "officer"]
AUDIENCES: tuple[Audience, ...] = ("person", "officer")

FORMAT = 1
"""Version of the statement's form."""

Record: TypeAlias = Mapping[str, Any]
"""A record of the ledger."""


@dataclass(frozen=True, slots=True)
class Ground:
    """An article that a verdict rests on: its version on the day of the conduct, None where the law table has none."""

    id: str
    version: Version | None
    name: Mapping[str, str]

    @property
    def verified(self) -> bool:
        """Whether it may back a verdict against somebody: its wording was checked, and it was in force."""
        return self.version is not None and self.version.verified


@dataclass(frozen=True, slots=True)
class Told:
    """What a statement is about: a decision, the record of which is told (a verdict, or the end of an appeal), the one
    that gave the verdict as it then stood, and the measures of then."""

    first: Record
    of: Record
    ruling: Record
    verdict: str
    measures: tuple[Record, ...]

    @property
    def by_person(self) -> bool:
        """Whether a person gave the verdict."""
        return by_person(self.ruling)


def occasion(case: Case, of: str | None = None) -> Told:
    """What is told of a case as it stands, or as it stood after the record `of`.

    Raises NotFound for a record that is none of the case's, Conflict where nothing is against anybody.
    """
    records = [case.first, *case.later]
    place = len(records) - 1 if of is None else next((at for at, each in enumerate(records) if each["id"] == of), None)
    if place is None:
        raise NotFound("this decision has no record with this id")
    then = Case(case.first, tuple(records[1 : place + 1]))
    newest = next((each for each in reversed(records[: place + 1]) if _tells(each)), case.first)
    return Told(case.first, newest, then.ruling, then.verdict, then.measures)


def _tells(record: Record) -> bool:
    """Whether a person is told of this record: it gives a verdict, or ends an appeal."""
    return record["verdict"] is not None or (record["type"] == "appeal" and record["said"] in ENDS)


# What it rests on


def found_against(record: Record, policy: Policy, measures: Collection[str] | None = None) -> tuple[str, ...]:
    """The signals that speak against somebody, gravest first: those with points where the score counted, those that a
    clause of the policy which holds asks for, and what did not work where that raised the verdict. With `measures`,
    those alone on which these rest.

    What only softens (`at_most`) is not among them.
    """
    held = [reason for reason in record["reasons"] if reason["signal"] in record["signals"]]
    ranks = {reason["signal"]: SEVERITIES.index(reason["severity"]) for reason in reversed(held)}
    raised = record["steps"] if measures is None else ()
    scored = any(step["by"] == "score" for step in raised)
    behind = policy.behind(record["signals"], ranks, measures)
    against = [each["signal"] for each in held if each["signal"] in behind or (scored and each["points"] > 0)]
    broken = [step["name"] for step in raised if step["by"] == "degraded" and step["before"] != step["after"]]
    return tuple(dict.fromkeys([*against, *broken, *(each for each in record["notices"] if each in behind)]))


def still_against(told: Told, policy: Policy) -> tuple[str, ...]:
    """What speaks against somebody as it stands: where the verdict is the mildest, what the measures rest on alone."""
    mild = told.verdict == policy.verdicts[0]
    return found_against(told.first, policy, [action["do"] for action in told.measures] if mild else None)


def came_after(told: Told, policy: Policy) -> tuple[str, ...]:
    """What was beside the findings: how a challenge or review ended, a full queue, an unusual event. As the names of
    `engine.wording.EVENTS`."""
    ruling, steps = told.ruling, told.first["steps"]
    found = []
    if ruling["type"] == "resolution" and ruling["counted"] not in ("passed", "approved"):
        found.append(f"{ruling['what']}_{ruling['counted']}")
    moved = {step["by"] for step in steps if step["before"] != step["after"]}
    found += [name for by, name in (("overflow", "queue_full"), ("mode", "mode")) if by in moved]
    mark = policy.pack.score.anomaly
    if mark is not None and told.first["anomaly"] is not None and Decimal(told.first["anomaly"]) >= mark.at:
        found.append("unusual")
    return tuple(found)


def grounds(told: Told, rulebook: Rulebook, policy: Policy) -> tuple[Ground, ...]:
    """The articles behind what was found against somebody, behind mandatory clauses that held and behind measures, each
    as it was in force on the day of the conduct."""
    signals = set(still_against(told, policy))
    cited = [law for reason in told.first["reasons"] if reason["signal"] in signals for law in reason["law"]]
    names = {step["name"] for step in told.first["steps"] if step["by"] == "mandatory"}
    cited += [str(clause.basis) for clause in policy.pack.mandatory if clause.id in names and clause.basis]
    cited += [action["basis"] for action in told.measures if action["basis"]]
    day = day_of(told.first["event"]["at"])
    return tuple(_ground(id, rulebook, day) for id in dict.fromkeys(cited) if re.fullmatch(LAW_ID.pattern, id))


def _ground(id: str, rulebook: Rulebook, day: date) -> Ground:
    article = rulebook.law.articles.get(id)
    if article is None:
        return Ground(id, None, {"en": id, "zh": id})
    return Ground(id, rulebook.law.on(id, day), article.law.name)


def rests_on_own_rules(told: Told, policy: Policy, found: Iterable[Ground]) -> bool:
    """Whether the platform's own rules are a ground: something was found that rests on no law, or no article of those
    that were named is verified."""
    signals = set(still_against(told, policy))
    lawless = any(reason["signal"] in signals and not reason["law"] for reason in told.first["reasons"])
    return lawless or not any(ground.verified for ground in found)


# For people


def statement(
    case: Case,
    rulebook: Rulebook,
    audience: Audience,
    language: str,
    *,
    of: str | None = None,
    answer: Mapping[str, str] | None = None,
    milder: Sequence[str] = (),
) -> dict[str, Any]:
    """What a person is told of a verdict, or what an officer sees of it. `rulebook` is the one the decision pins.

    `of` names an earlier record of the case; `answer` is what the person who decided an appeal wrote, by language;
    `milder` are changes that would have led to a milder verdict, in words for the person. Raises Conflict where the
    rulebook has no words, or nothing is against anybody.
    """
    about, policy = occasion(case, of), _policy(case, rulebook)
    wording = rulebook.wording.get(policy.name)
    if wording is None or wording.says is None:
        raise Conflict(f"the rulebook of this decision has no words for people about the policy '{policy.name}'")
    shown = _Written(about, rulebook, policy, wording, wording.says, language).statement(answer, milder)
    return (
        shown if audience == "person" else {**_behind(about, rulebook, policy, case), "for": "officer", "person": shown}
    )


def _policy(case: Case, rulebook: Rulebook) -> Policy:
    return policy_of(rulebook.kinds[case.first["event"]["kind"]])


@dataclass(frozen=True)
class _Written:
    """One statement for the person, in one language."""

    told: Told
    rulebook: Rulebook
    policy: Policy
    wording: PolicyWording
    says: SaysWords
    language: str

    def statement(self, answer: Mapping[str, str] | None, milder: Sequence[str]) -> dict[str, Any]:
        told, ended = self.told, self._ended()
        words = self._words(ended)
        over = ended == "lifted"
        found = grounds(told, self.rulebook, self.policy)
        reasons = () if over else self._reasons()
        wanted = () if over else self._documents(reasons)
        sections = [
            (
                "what",
                [
                    words.what.said(self.language, reference=self._reference),
                    *self._lasts(words),
                    *self._upheld(),
                    *self._measures(),
                ],
            ),
            ("answer", [answer[self.language]] if answer else []),
            ("why", [] if over else list(self._why(reasons))),
            ("ground", [] if over else list(self._ground(found))),
            (
                "how",
                [] if over else [(self.says.by_person if told.by_person else self.says.automated).said(self.language)],
            ),
            ("act", [each.act.said(self.language) for each in reasons if each.act] + list(milder)),
            ("documents", self._wanted(wanted)),
            ("remedy", [] if over else list(self._remedy())),
        ]
        return self._hashed(words, sections, found, [name for name, _ in wanted], over)

    def _hashed(
        self,
        words: VerdictWords,
        sections: Sequence[tuple[str, list[str]]],
        found: Sequence[Ground],
        wanted: list[str],
        over: bool,
    ) -> dict[str, Any]:
        told, appeal = self.told, self.policy.pack.appeal
        title = words.title.said(self.language, reference=self._reference)
        written = [{"name": name, "text": " ".join(dict.fromkeys(lines))} for name, lines in sections if lines]
        body = {
            "format": FORMAT,
            "for": "person",
            "lang": self.language,
            "decision": told.first["id"],
            "of": told.of["id"],
            "wording": self.rulebook.hash,
            "reference": self._reference,
            "verdict": told.verdict,
            "title": title,
            "sections": written,
            "automated": not told.by_person,
            "human_review": not (over or self._answered or told.by_person) and appeal is not None,
            "articles": [] if over else [ground.id for ground in found if ground.verified],
            "documents": wanted,
        }
        # What somebody wrote in free text can be erased: a notice is the same one without it.
        fixed = {**body, "sections": [each for each in written if each["name"] != "answer"]}
        text = "\n\n".join((title, *(each["text"] for each in written)))
        return {**body, "text": text, "sha256": sha256(canonical(fixed)).hexdigest()}

    @property
    def _reference(self) -> str:
        return str(self.told.first["event"]["id"])

    def _ended(self) -> str | None:
        of = self.told.of
        if of["type"] == "resolution" and of.get("lifted") and not is_against(self.told, self.policy):
            return "lifted"  # Who was told of a measure is told that it ended.
        return str(of["said"]) if of["type"] == "appeal" else None

    @property
    def _answered(self) -> bool:
        """Whether an objection was answered by a person: there is no second one here."""
        return self._ended() in ("upheld", "partly")

    def _words(self, ended: str | None) -> VerdictWords:
        verdict = self.told.verdict
        if not ended and not is_against(self.told, self.policy):
            raise Conflict("nothing is held against anybody here: the verdict is the mildest one, without measures")
        found = self.wording.ends.get(ended) if ended else self.wording.verdicts.get(verdict)
        if found is None:
            what = f"an appeal that ended as '{ended}'" if ended else f"the verdict '{verdict}'"
            raise Conflict(f"the rulebook of this decision has no words for {what}")
        return found

    def _lasts(self, words: VerdictWords) -> Iterator[str]:
        due = due_of(self.told.of) if self.told.of["asks"] else None
        if words.lasts is not None and due is not None:
            yield words.lasts.said(self.language, until=moment(due))

    def _upheld(self) -> Iterator[str]:
        """The verdict that still holds after an objection was answered."""
        words = self.wording.verdicts.get(self.told.verdict)
        if self._answered and words is not None and self.told.verdict != self.policy.verdicts[0]:
            yield words.what.said(self.language, reference=self._reference)

    def _measures(self) -> Iterator[str]:
        """What is done beside the verdict, or no longer done, and until when."""
        for action in self.told.measures:
            words = self.wording.actions.get(action["do"])
            if words is None:
                raise Conflict(f"the rulebook of this decision has no words for the measure '{action['do']}'")
            if action["for_s"]:
                until = moment(self.told.first["decided_at"] + action["for_s"] * MICROSECONDS)
                yield f"{words.said(self.language)} {self.says.until.said(self.language, until=until)}"
            elif words.once:
                yield words.said(self.language)
            else:
                yield f"{words.said(self.language)} {self.says.no_end.said(self.language)}"

    def _reasons(self) -> tuple[ReasonWords, ...]:
        """The words of all that speaks against the person, each once."""
        signals = (*came_after(self.told, self.policy), *still_against(self.told, self.policy)) or (ANY,)
        found = [self.wording.reason(signal) for signal in signals]
        if any(each is None for each in found):
            raise Conflict("the rulebook of this decision has no words for some reason, and none for any other ('*')")
        return tuple({id(each): each for each in found if each is not None}.values())

    def _why(self, reasons: Iterable[ReasonWords]) -> Iterator[str]:
        for each in reasons:
            yield (each.why or self.says.fraud).said(self.language)

    def _ground(self, found: Sequence[Ground]) -> Iterator[str]:
        """The law, where a verified article was in force; the platform's own rules, where they are a ground."""
        known = [ground for ground in found if ground.verified]
        if known:
            between = "；" if self.language == "zh" else "; "
            articles = between.join(cited(ground, self.language) for ground in known)
            yield self.says.by_law.said(self.language, articles=articles)
        if rests_on_own_rules(self.told, self.policy, found):
            yield self.says.own_rules.said(self.language)

    def _documents(self, reasons: Iterable[ReasonWords]) -> tuple[tuple[str, Words], ...]:
        wanted = dict.fromkeys(str(name) for each in reasons for name in each.documents)
        return tuple((name, self.wording.documents[name]) for name in wanted)

    def _wanted(self, wanted: Sequence[tuple[str, Words]]) -> list[str]:
        if not wanted:
            return []
        between = "、" if self.language == "zh" else ", "
        names = between.join(words.said(self.language) for _, words in wanted)
        return [self.says.documents.said(self.language, documents=names)]

    def _remedy(self) -> Iterator[str]:
        appeal = self.policy.pack.appeal
        if appeal is None or self._answered:
            yield self.says.no_appeal.said(self.language)
        else:
            within, answer = (lasting(each, self.language) for each in (appeal.within, appeal.answer))
            yield self.says.appeal.said(self.language, within=within, answer=answer)
            if not self.told.by_person:
                yield self.says.human_review.said(self.language)
        if self.wording.channel is not None:
            yield self.wording.channel.said(self.language)


def cited(ground: Ground, language: str) -> str:
    """An article as a person reads it: its law, its number on that day, and what it asks."""
    version, name = ground.version, ground.name[language]
    assert version is not None, "what is cited was in force"
    if language == "zh":
        return f"《{name}》第{version.number}条（{version.duty['zh']}）"
    return f"{name}, Article {version.number} ({version.duty['en']})"


_LENGTHS = ((86_400, "day", "天"), (3600, "hour", "小时"), (60, "minute", "分钟"), (1, "second", "秒"))


def lasting(microseconds: int, language: str) -> str:
    """A length of time in words, in its largest whole unit: '15 days', '15 天'."""
    seconds = microseconds // MICROSECONDS
    size, english, chinese = next(each for each in _LENGTHS if seconds % each[0] == 0)
    count = seconds // size
    return f"{count} {chinese}" if language == "zh" else f"{count} {english}{'' if count == 1 else 's'}"


def moment(at: int) -> str:
    """A moment as a person reads it, to the minute: '2026-11-23 20:15 (Asia/Shanghai)'."""
    return f"{datetime.fromtimestamp(at // MICROSECONDS, BEIJING):%Y-%m-%d %H:%M} ({BEIJING})"


# For officers, and for everybody


def _behind(told: Told, rulebook: Rulebook, policy: Policy, case: Case) -> dict[str, Any]:
    """Everything that is behind a verdict, for those who answer for it."""
    first, kind = told.first, rulebook.kinds[told.first["event"]["kind"]]
    tier = first["situation"]["tier"] or policy.pack.default_tier
    found = grounds(told, rulebook, policy)
    fired = {*first["found"]}
    return {
        "decision": first["id"],
        "of": told.of["id"],
        "verdict": {"decided": first["verdict"], "stands": case.verdict, "told": told.verdict},
        "score": first["score"],
        "tier": tier,
        "thresholds": dict(policy.pack.tiers.get(tier, {})),
        "steps": first["steps"],
        "against": list(found_against(first, policy)),
        "reasons": first["reasons"],
        "lists": sorted({name for rule in kind.rules if rule.id in fired for name in rule.lists}),
        "actions": list(told.measures),
        "articles": [_article(ground) for ground in found],
        "own_rules": rests_on_own_rules(told, policy, found),
    }


def _article(ground: Ground) -> dict[str, Any]:
    version = ground.version
    if version is None:
        what = "no version of it was in force on the day of the conduct, or the law table does not have it"
        return {"id": ground.id, "name": dict(ground.name), "verified": False, "open": what}
    return {
        "id": ground.id,
        "name": dict(ground.name),
        "number": version.number,
        "from": version.since.isoformat(),
        "to": version.until.isoformat() if version.until else None,
        "duty": dict(version.duty),
        "verified": version.verified,
        "open": version.open,
    }


def public_statement(case: Case, rulebook: Rulebook, ended: int | None = None) -> dict[str, Any]:
    """The statement of reasons without personal data, after DSA Art. 17(3)(a) to (f): measure with scope and duration,
    facts in general words, automated means, ground, redress. Event and order are not named. `ended` is when the case
    ceased to be against anybody (UTC µs).

    Its field names are ours: an operator who uploads statements (Art. 24(5)) maps them to the form of that database.
    """
    about, policy = occasion(case), _policy(case, rulebook)
    found = grounds(about, rulebook, policy)
    texts = {language: statement(case, rulebook, "person", language) for language in ("en", "zh")}
    appeal = policy.pack.appeal
    return {
        "format": FORMAT,
        "decision": about.first["id"],
        "of": about.of["id"],
        "applied_at": utc(about.of["decided_at"]),
        "lifted_at": None if ended is None else utc(ended),
        "measure": {"verdict": about.verdict, "actions": [action["do"] for action in about.measures]},
        "scope": {"kind": about.first["event"]["kind"], "policy": policy.name},
        "duration": [_until(about, action) for action in about.measures],
        "facts": {language: _section(text, "why") for language, text in texts.items()},
        "automated": {"detection": True, "decision": "partly" if about.by_person else "fully"},
        "ground": {
            "law": [ground.id for ground in found if ground.verified],
            "own_rules": rests_on_own_rules(about, policy, found),
        },
        "redress": {
            "internal_complaint": appeal is not None,
            "within_days": appeal.within // (86_400 * MICROSECONDS) if appeal else None,
            "human_review": texts["en"]["human_review"],
        },
        "sha256": {language: text["sha256"] for language, text in texts.items()},
    }


def _until(told: Told, action: Record) -> dict[str, Any]:
    end = told.first["decided_at"] + action["for_s"] * MICROSECONDS if action["for_s"] else None
    return {"action": action["do"], "until": utc(end) if end else None}


def _section(text: Mapping[str, Any], name: str) -> str:
    return next((str(each["text"]) for each in text["sections"] if each["name"] == name), "")


def utc(at: int) -> str:
    """UTC microseconds as ISO 8601 to the second."""
    return f"{datetime.fromtimestamp(at // MICROSECONDS, UTC):%Y-%m-%dT%H:%M:%SZ}"
