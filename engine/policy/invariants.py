"""Invariants: what a policy promises of every event, in the language of conditions.

    invariants:
      - id: no-approval-of-the-sanctioned
        never: verdict == approve
        when: sanctions_hit
      - {id: nobody-banned, never: verdict == approve when tier == 'banned'}

Beside the fields of the event a promise may name the verdict (compared by its order: `verdict >= review`), the score,
the merchant's tier, every signal as a yes/no value, `any critical` as in the policy's own terms, what is done
(`action.hold_payout`) and the circumstances: `queue_full`, `held_back`, `challenge_passed`, `hard`. Signals and the
score are those of all that was found; the verdict and the actions are what comes of it in the end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from engine.errors import PackError, Problem
from engine.expr import BOOL, NUMBER, RESERVED, Expression, Vocabulary, read
from engine.expr.check import expression
from engine.expr.nodes import Literal
from engine.packs import Document, Loc, Text
from engine.policy.chaining import RANK
from engine.policy.pack import Invariant, PolicyPack
from engine.schema import FieldDef
from engine.schema.fields import flag, number, text

CIRCUMSTANCES = {
    "hard": "a finding that nothing may soften is among what was found",
    "queue_full": "the queue of reviews is full",
    "held_back": "the breaker holds back a rule that found something",
    "challenge_passed": "the buyer has passed the challenge",
}
"""Names for how an event was judged, and what each means."""
BESIDE = ("verdict", "score", "tier")
"""Names that are never fields of the event, whatever fields there are."""
ANY = {f"any_{severity}": rank for severity, rank in RANK.items()}
"""How `any critical` is named inside a condition, and the rank that it asks for."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WORDS = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*")|'(?P<plain>[^'"]*)'"""
    r"""|\bany\ (?P<any>info|low|medium|high|critical)\b|(?P<when>\bwhen\b)"""
)
_VERDICT = re.compile(r"""(\bverdict\s*(?:[=!<>]=|[<>])\s*)"([a-z][a-z0-9_]*)\"""")


@dataclass(frozen=True)
class Promise:
    """An invariant, read: `claim` is never (or `always`) true where `when` is."""

    id: str
    always: bool
    claim: Expression
    when: Expression | None
    text: str
    written: Invariant
    document: Document
    loc: Loc

    @property
    def paths(self) -> frozenset[str]:
        """Everything that it names."""
        return self.claim.paths | (self.when.paths if self.when else frozenset())

    def beside(self, event: Collection[str]) -> frozenset[str]:
        """What it names and is none of these fields of an event."""
        return frozenset(path for path in self.paths if path not in event or path in BESIDE)

    def broken(self, claim: bool | None, when: bool | None) -> bool:
        """Whether these answers break it. What is unknown is not `always` so, and not `never` so either."""
        return when is True and (claim is not True if self.always else claim is True)


class _Part(str):
    """A part of a text, with blanks for the rest, so that its problems stand where the text does."""

    __slots__ = ("_whole",)
    _whole: Text

    @classmethod
    def of(cls, whole: Text, value: str) -> _Part:
        made = cls(value)
        made._whole = whole
        return made

    def problem(self, offset: int, what: str, hint: str = "", width: int = 1) -> Problem:
        """A problem at a character."""
        return self._whole.problem(offset, what, hint, width)


def words(pack: PolicyPack, event: Vocabulary, signals: Iterable[str]) -> Vocabulary:
    """What promises of the policy may name. A field of the event comes before a signal of the same name."""
    fields = dict(special_fields(pack, signals))
    names = {
        verdict: expression(Literal(NUMBER, verdict, value=rank))
        for rank, verdict in enumerate(pack.verdicts)
        if _NAME.fullmatch(verdict) and verdict not in RESERVED
    }
    tier = fields["tier"]
    if "merchant.tier" not in event.fields:
        fields["merchant.tier"] = replace(tier, path="merchant.tier")
    objects = {path.partition(".")[0] for path in event.fields}
    free = {path: each for path, each in fields.items() if path not in objects or path in event.fields}
    return replace(event, fields={**free, **event.fields, **{name: fields[name] for name in BESIDE}}, names=names)


def special_fields(pack: PolicyPack, signals: Iterable[str]) -> Iterator[tuple[str, FieldDef]]:
    """The names that are no fields of the event."""
    made = [
        number("verdict", "The verdict, by its order", 0, high=len(pack.verdicts) - 1, whole=True),
        number("score", "The score of all that was found", 0, high=pack.score.cap, whole=True),
        text("tier", "The tier that counts", pack.default_tier, choices=" ".join(pack.tiers)),
        *(flag(name, about) for name, about in CIRCUMSTANCES.items()),
        *(flag(name, "Some signal holds at this severity or a worse one") for name in ANY),
        *(flag(f"action.{name}", "What is done") for name in _named(clause.do for clause in pack.actions)),
    ]
    taken = {each.path for each in made}
    derived = (rule.derive.signal for rule in pack.rules if rule.derive)
    free = (name for name in _named([*signals, *derived]) if name not in taken and name not in RESERVED)
    yield from ((each.path, each) for each in (*made, *(flag(name, "The signal holds") for name in free)))


def _named(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if _NAME.fullmatch(name)]


def read_promises(
    pack: PolicyPack, document: Document, event: Vocabulary, signals: Iterable[str], problems: list[Problem]
) -> tuple[Promise, ...]:
    """The invariants of a policy; what is wrong with them goes to `problems`."""
    vocabulary = words(pack, event, signals)
    found: list[Promise] = []
    taken: set[str] = set()
    for index, each in enumerate(pack.invariants):
        loc = ("invariants", index)
        if each.id in taken:
            problems.append(
                document.problem((*loc, "id"), f"the id '{each.id}' is taken", "each invariant has its own")
            )
        taken.add(each.id)
        if (each.never is None) == (each.always is None):
            what, hint = "an invariant says either 'never' or 'always'", "such as never: verdict == approve"
            problems.append(document.problem(loc, what, hint))
            continue
        try:
            found.append(_promise(each, document, loc, vocabulary))
        except PackError as error:
            problems += error.problems
    return tuple(found)


def _promise(written: Invariant, document: Document, loc: Loc, vocabulary: Vocabulary) -> Promise:
    source = written.never if written.never is not None else written.always
    assert source is not None
    claim, inner = parts(source)
    if inner is not None and written.when is not None:
        raise PackError([document.problem((*loc, "when"), "there is a 'when' in the condition already", "keep one")])
    whole = inner if inner is not None else parts(written.when, split=False)[0] if written.when is not None else None
    problems: list[Problem] = []
    read_claim = _read(claim, vocabulary, problems)
    read_when = _read(whole, vocabulary, problems) if whole is not None else None
    if problems or read_claim is None:
        raise PackError(problems)
    said = f"{'always' if written.always is not None else 'never'}: {' '.join(source.split())}"
    if written.when is not None:
        said += f" when {' '.join(written.when.split())}"
    return Promise(written.id, written.always is not None, read_claim, read_when, said, written, document, loc)


def _read(part: _Part, vocabulary: Vocabulary, problems: list[Problem]) -> Expression | None:
    try:
        found = read(part, vocabulary, BOOL)
    except PackError as error:
        problems += error.problems
        return None
    if found.windows:
        hint = "ask for the signals that rules find with them"
        problems.append(part.problem(0, "an invariant is about an event and its verdict, not about windows", hint))
    return found


def parts(source: Text, *, split: bool = True) -> tuple[_Part, _Part | None]:
    """The condition, and what stands behind its `when`, in the words of the language: text in single quotes is text, a
    verdict may stand in quotes, and `any critical` is one name."""
    places = [place.start() for place in _WORDS.finditer(source) if place["when"]] if split else []
    plain = _VERDICT.sub(r"\1 \2 ", _WORDS.sub(_plain, source))
    if not places:
        return _Part.of(source, plain), None
    start, end = places[0], places[0] + len("when")
    before = plain[:start] + " " * (len(plain) - start)
    return _Part.of(source, before), _Part.of(source, " " * end + plain[end:])


def _plain(place: re.Match[str]) -> str:
    if place["plain"] is not None:
        return f'"{place["plain"]}"'
    return f"any_{place['any']}" if place["any"] else place.group()
