"""The features of a scorecard as they are asked for: `amount in CNY, night=hour(at) < 6, channel`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.errors import PackError, Problem, RequestRefused
from engine.expr import BOOL, DURATION, MONEY, NUMBER, RESERVED, TEXT, Expression, Vocabulary, read

_TYPES = (NUMBER, MONEY, DURATION, BOOL, TEXT)
_NAMED = re.compile(r"([a-z][a-z0-9_]*)\s*=(?!=)\s*(.+)", re.DOTALL)
_FIELD = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_OPTION = "--scorecard"


@dataclass(frozen=True, slots=True)
class Asked:
    """One feature. `let` is the name that a draft gives it; empty where it is a field, which needs none."""

    text: str
    let: str
    value: Expression

    @property
    def name(self) -> str:
        """What conditions call it."""
        return self.let or self.text


def read_features(text: str, vocabulary: Vocabulary) -> list[Asked]:
    """The features of a text. Raises PackError with everything that is wrong with them, RequestRefused where there is
    none."""
    named = [_named(each) for each in parts(text)]
    if not named:
        raise RequestRefused(f"{_OPTION} names no feature: write such as 'amount in CNY, channel, hour(at)'")
    names = [let or own for let, own in named]
    problems = [problem for let, own in named for problem in _taken(let, own, names, vocabulary)]
    asked: list[Asked] = []
    for let, own in named:
        try:
            asked.append(Asked(own, let, read(own, vocabulary)))
        except PackError as error:
            problems += [replace(each, file=_OPTION) for each in error.problems]
    problems += [problem for each in asked for problem in _without_bands(each, vocabulary)]
    if problems:
        raise PackError(problems)
    return asked


def parts(text: str) -> list[str]:
    """The text between the commas that stand in no brackets and no quotes."""
    found, depth, quote = [""], 0, False
    for character in text:
        quote ^= character == '"'
        depth += 0 if quote else (character in "([") - (character in ")]")
        if character == "," and not depth and not quote:
            found.append("")
        else:
            found[-1] += character
    return [each.strip() for each in found if each.strip()]


def _named(text: str) -> tuple[str, str]:
    """The name that it gets, and the expression itself."""
    if given := _NAMED.fullmatch(text):
        return given[1], given[2].strip()
    if _FIELD.fullmatch(text):
        return "", text
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name if name[:1].isalpha() else f"f_{name}", text


def _taken(let: str, text: str, names: list[str], vocabulary: Vocabulary) -> Iterator[Problem]:
    if names.count(let or text) > 1:
        yield _problem(text, f"'{let or text}' is there twice", "give one of them another name: other=EXPR")
    if let in vocabulary.fields or let in vocabulary.groups or let in RESERVED:
        yield _problem(text, f"the name '{let}' is taken", "choose another one: other=EXPR")


def _without_bands(asked: Asked, vocabulary: Vocabulary) -> Iterator[Problem]:
    """What no bands can be made of, or would show personal data."""
    type_ = asked.value.type
    if type_ not in _TYPES:
        hint = "ask whether something is in it" if type_.element else "say how long ago: at - it"
        yield _problem(asked.text, f"this is {type_}, which has no bands", hint)
    fields = vocabulary.fields
    personal = sorted(path for path in asked.value.paths if path in fields and fields[path].privacy != "public")
    if type_ == TEXT and personal:
        what = f"this is personal data ({', '.join(personal)}), which bands would show"
        yield _problem(asked.text, what, "ask something about it that is not")


def _problem(text: str, what: str, hint: str) -> Problem:
    return Problem(_OPTION, 1, 1, what, hint, text, len(text))
