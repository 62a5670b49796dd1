"""Drafts of rules in a new file, in the shadow: tried beside all other rules, with tests, never over what is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.observing import Sample
from cli.trying import tried
from cli.tunable import Chosen
from engine.errors import PackError, RequestRefused
from engine.mutation import first_tests
from engine.mutation.spelling import spell_test
from engine.packs import parse
from engine.packs.layout import laid_out
from engine.packs.spelling import spelt
from engine.rulebook import Rulebook
from engine.rules import Rule, RulePack, RuleTest
from engine.trial import player
from engine.tuning import Threshold

_WIDE = 60
"""Longer brackets become a block."""


def stem(out: Path) -> str:
    """The name of a new file of rules, with which their ids begin. Raises ValueError."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", out.stem):
        raise ValueError("name it in small letters, digits and '-', for the ids of its rules")
    return out.stem


def refuse_taken(sample: Sample, out: Path) -> None:
    """Raises RequestRefused where the rulebook has a file or rules of this name."""
    file, ids = sample.rules / out.name, f"{stem(out)}."
    taken = [rule for rule in sample.book.rules if rule.id.startswith(ids)]
    if taken or file.exists():
        what = f"the rule '{taken[0].id}' of {taken[0].document.file}" if taken else f"{file}"
        raise RequestRefused(f"--out {out}: its name would clash with {what}; choose another name")


def write_draft(sample: Sample, out: Path, head: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> None:
    """A new file with these rules, each with tests on both sides where some are found. `head` is what stands above
    them. Raises PackError, and RequestRefused where a file is there."""
    with tried(_text(head, rules), sample.rules, sample.policies, sample.rules / out.name) as (book, made):
        tests = [_passed(book, rule, ()) for rule in made]
    _save(out, _text(head, rules, tests))


def write_rule(sample: Sample, of: Chosen, limit: Any, out: Path) -> None:
    """A new file with the rule at another threshold. Raises RequestRefused."""
    rule, threshold = of.rule, of.threshold
    data = rule.document.data
    old = data["rules"][rule.loc[1]]
    wanted, let = threshold.at(limit).text, _needed(data.get("let") or {}, [old["when"], *old["because"].values()])
    new, present = threshold.spelt(limit), threshold.spelt(threshold.limit)
    about = f"A draft by arbiter tune: {rule.id} with {new} instead of {present}."
    name = f"{stem(out)}.{rule.id.partition('.')[2]}"
    for when, names in _edited(str(old["when"]), let, threshold, limit):
        head = {key: value for key, value in data.items() if key != "let"} | {"pack": stem(out), "about": about}
        head |= {"let": names} if names else {}
        made = {key: value for key, value in old.items() if key not in ("tests", "rollout")}
        made |= {"id": name, "when": when, "mode": "shadow"}
        try:
            with tried(_text(head, [made]), sample.rules, sample.policies, sample.rules / out.name) as (book, (mine,)):
                tests = _passed(book, mine, rule.tests) if mine.condition.text == wanted else None
        except PackError:
            continue
        if tests is not None:
            _save(out, _text(head, [made], [tests]))
            return
    raise RequestRefused(f"no draft: '{rule.id}' could not be given {new}; write it by hand")


def _passed(book: Rulebook, rule: Rule, own: Sequence[RuleTest]) -> list[RuleTest]:
    """Those of its own tests and of the tests at its thresholds that it passes."""
    play = player(book, rule)
    tests = {test.it: test for test in (*own, *first_tests(book, rule))}
    return [test for test in tests.values() if play(test) == test.expect]


def _needed(let: Mapping[str, Any], texts: Sequence[str]) -> dict[str, str]:
    """The names of a file that some of its texts use, and those that they are made of."""
    used: set[str] = set()
    found = _words(texts) & let.keys()
    while found - used:
        used |= found
        found = _words(let[name] for name in used) & let.keys()
    return {name: str(text) for name, text in let.items() if name in used}


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z][a-z0-9_]*", text)}


# Another limit in a text


def _edited(
    when: str, let: Mapping[str, str], threshold: Threshold, limit: Any
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Ways to write the limit into the text, to be tried; the last is the whole condition written out."""
    new = threshold.spelt(limit)
    for start, end in _limits(when, threshold):
        yield when[:start] + new + when[end:], let
    for name, text in let.items():
        for start, end in _limits(text, threshold):
            yield when, {**let, name: text[:start] + new + text[end:]}
    yield threshold.at(limit).text, let


def _limits(text: str, threshold: Threshold) -> list[tuple[int, int]]:
    """Where numbers with their units stand, those that are written as the present limit is first."""
    unit = rf"[ \t]*{threshold.currency}" if threshold.currency else r"(?:[smhdw]\b|%)?"
    found = re.finditer(rf"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?{unit}(?![\w.])", text)
    present = threshold.spelt(threshold.limit).replace(" ", "")
    return [each.span() for each in sorted(found, key=lambda each: each[0].replace(" ", "") != present)]


# YAML


def _text(head: Mapping[str, Any], rules: Sequence[Mapping[str, Any]], tests: Sequence[Sequence[RuleTest]] = ()) -> str:
    """The whole file."""
    lines = [*_lines({key: value for key, value in head.items() if key != "rules"}), "rules:"]
    for place, rule in enumerate(rules):
        first, *rest = _lines(rule)
        lines += [f"  - {first}", *(f"    {line}" for line in rest)]
        if tests and tests[place]:
            lines += ["    tests:", *(spell_test(test, 6) for test in tests[place])]
    return "\n".join(lines) + "\n"


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    """A line a key; what is in a block of names stands below its key."""
    for key, value in data.items():
        if isinstance(value, Mapping) and len(spelt(value)) > _WIDE:
            yield f"{key}:"
            yield from (f"  {line}" for line in _lines(value))
        else:
            yield f"{key}: {spelt(value)}"


def _save(out: Path, content: str) -> None:
    """In the layout of `arbiter fmt`."""
    written = laid_out(parse(content, out.name), RulePack)
    try:
        with out.open("x", encoding="utf-8", newline="\n") as file:
            file.write(written)
    except FileExistsError:
        raise RequestRefused(f"--out {out} exists already; what stands there is never overwritten") from None
