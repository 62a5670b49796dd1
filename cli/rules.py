"""`rule new`: a rule with its tests, from answers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from cli.draft import Draft, added, event_of
from cli.language import language_option, rendered, said, say, term
from cli.settings import pack_options, settings
from cli.trying import tried
from cli.writing import write_whole
from engine.assembly import wall_clock
from engine.errors import PackError, RequestRefused
from engine.mutation import first_tests
from engine.packs import read
from engine.packs.moments import day_of
from engine.rules import Rule, RuleTest
from engine.trial import player, try_rules

_POINTS = {"info": 0, "low": 15, "medium": 30, "high": 45, "critical": 85}
"""By severity, for who has no other wish."""
_REVIEW = timedelta(days=182)
"""After which a new rule is looked at again, where nothing else is said."""
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)+")

_QUESTIONS = {
    "kinds": "For which kind of event? (transaction, payment, account, listing, merchant …; several with commas)",
    "about": "What is it against, and what looks alike? One or two sentences",
    "owner": "Who answers for it? A team",
    "when": "The condition, such as: buyer.guest and amount in CNY > 5000 CNY",
    "signal": "What has it found, in a word for policies? Small letters, digits and _, such as large_guest_order",
    "severity": "How grave is it? info, low, medium, high or critical",
    "points": "How many points does it add to the score?",
    "en": "The reason in English; {amount} shows a field",
    "zh": "The reason in Chinese; {amount} shows a field",
}
_PLACES = {"id": "- id:", "when": "when:", "signal": "signal:", "en": "en:", "zh": "zh:", "kinds": "for:"}
"""Which answer stands on a line of the file that begins so."""


@click.group()
def rule() -> None:
    """Rules: write a new one.

    \b
    Examples:
      arbiter rule new first-order.large-guest
    """


@rule.command()
@click.argument("id", metavar="ID")
@click.option("--for", "kinds", help="The kind of event, or several with commas.")
@click.option("--about", help="What the pack is against.")
@click.option("--owner", help="Who answers for the pack.")
@click.option("--when", help="The condition.")
@click.option("--signal", help="What the rule finds.")
@click.option("--severity", type=click.Choice(list(_POINTS)), help="How grave that is.")
@click.option("--points", type=click.IntRange(0, 1000), help="What it adds to the score.")
@click.option("--en", help="The reason in English.")
@click.option("--zh", help="The reason in Chinese.")
@click.option("--review-by", metavar="DAY", help="When somebody looks at it again; in half a year when absent.")
@click.option("--mode", type=click.Choice(["shadow", "live", "off"]), default="shadow", show_default=True)
@click.option("--fires", metavar="EVENT", help="An event on which it fires: 'amount: 5000.01 CNY, buyer.guest: true'.")
@click.option("--stays-quiet", metavar="EVENT", help="An event on which it does not.")
@pack_options
@language_option
def new(
    id: str,
    review_by: str | None,
    mode: str,
    fires: str | None,
    stays_quiet: str | None,
    rules: Path | None,
    policies: Path | None,
    **answers: Any,
) -> None:
    """Write a new rule with two tests, ready to be checked. ID is a file's name, a dot and a name.

    What no option says is asked for. Where a file of that name is among the rules, the rule is added to it at its
    end; otherwise the file is made. A test that fires and one that stays quiet are found by trying values around
    those of the condition; where none is found, they are asked for. Nothing is written before the tests pass.

    \b
    Examples:
      arbiter rule new first-order.large-guest
      arbiter rule new card-testing.night --signal card_testing --severity high
    """
    given = settings(rules, policies)
    if not _ID.fullmatch(id):
        raise RequestRefused(f"'{id}' is no id: write a file's name, a dot and a name, such as card-testing.burst")
    file, there = _file(given.rules, id.partition(".")[0])
    if there:
        _refuse_taken(file, given.rules, id)
    review_by = review_by or (day_of(wall_clock()) + _REVIEW).isoformat()
    draft = _answered(id, review_by, mode, answers, there)
    ask = _ask if sys.stdin.isatty() else None

    def content(draft: Draft, tests: Sequence[RuleTest] = ()) -> str:
        name = file.relative_to(given.rules).with_suffix("").as_posix()
        return added(draft, file, given.rules, tests) if there else draft.pack(name, tests)

    draft = _mended(draft, content, (given.rules, given.policies, file), ask)
    with tried(content(draft), given.rules, given.policies, file) as (rulebook, written):
        tests = _tests(rulebook, _rule(written, id), {"fires": fires, "quiet": stays_quiet}, ask)
    with tried(content(draft, tests), given.rules, given.policies, file) as (rulebook, written):
        problems = [trial.problem for trial in try_rules(rulebook, [_rule(written, id)]) if trial.problem]
        if problems:
            raise PackError(problems)
    _write(file, content(draft, tests), there=there)
    click.echo(content(draft, tests) if not there else draft.rule(tests), nl=False)
    click.echo(f"\n{term('added to' if there else 'wrote')} " + said(f"{file.as_posix()}, mode {mode}; 2 tests pass"))
    say(f"next: arbiter check {file.as_posix()}", err=True)


def _file(root: Path, stem: str) -> tuple[Path, bool]:
    """The file of that name among the rules and whether it is there."""
    found = sorted(path for path in root.rglob(f"{stem}.y*ml") if not _hidden(path.relative_to(root)))
    if len(found) > 1:
        raise RequestRefused(f"there are several files of that name: {', '.join(map(str, found))}; choose another")
    return (found[0], True) if found else (root / f"{stem}.yaml", False)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _refuse_taken(file: Path, root: Path, id: str) -> None:
    data = read(file, root=root).data
    if not isinstance(data, dict) or "pack" not in data:
        raise RequestRefused(f"{file} holds no rules; choose another name")
    if any(isinstance(each, dict) and each.get("id") == id for each in data.get("rules") or ()):
        raise RequestRefused(f"there is a rule '{id}' in {file} already; it is not overwritten")


# Answers


def _answered(id: str, review_by: str, mode: str, answers: dict[str, Any], there: bool) -> Draft:
    """The draft, with what no option says asked for, or everything that is missing told at once."""
    wanted = [name for name in _QUESTIONS if not (there and name in ("kinds", "about", "owner"))]
    severity = answers["severity"] or "medium"
    if answers["points"] is None and answers["severity"]:
        answers["points"] = _POINTS[severity]
    missing = [name for name in wanted if answers[name] is None]
    optional = {"severity", "points"}
    if not sys.stdin.isatty():
        if needed := [name for name in missing if name not in optional]:
            options = ", ".join("--" + {"kinds": "for"}.get(name, name) for name in needed)
            raise RequestRefused(f"nobody is there to be asked: give {options}")
        answers |= {
            "severity": severity,
            "points": _POINTS[severity] if answers["points"] is None else answers["points"],
        }
    else:
        for name in missing:
            default = {"severity": "medium", "points": _POINTS.get(answers["severity"] or "medium")}.get(name)
            answers[name] = _ask(_QUESTIONS[name], default)
    kinds = tuple(each.strip() for each in (answers.pop("kinds") or "").split(",") if each.strip())
    texts = {name: answers[name] or "" for name in ("about", "owner", "when", "signal", "en", "zh")}
    return Draft(
        id=id,
        severity=answers["severity"],
        points=int(answers["points"]),
        review_by=review_by,
        mode=mode,
        kinds=kinds,
        **texts,
    )


def _ask(question: str, default: Any = None) -> Any:
    kind = click.Choice(list(_POINTS)) if default in _POINTS else click.INT if isinstance(default, int) else str
    return click.prompt(said(question), default=default, type=kind, show_choices=False)


def _mended(
    draft: Draft, content: Callable[[Draft], str], where: tuple[Path, Path, Path], ask: Callable[..., Any] | None
) -> Draft:
    """The draft once nothing is wrong with it: what was answered wrongly is asked for again. Raises PackError."""
    while True:
        try:
            with tried(content(draft), *where):
                return draft
        except PackError as error:
            again = _wrong(content(draft), error, where[2])
            if ask is None or not again:
                raise
            for problem in error.problems:
                click.echo(rendered(problem), err=True)
        for name in again:
            told = ask(_QUESTIONS[name])
            changes: dict[str, Any] = {name: tuple(map(str.strip, told.split(","))) if name == "kinds" else told}
            draft = replace(draft, **changes)


def _wrong(content: str, error: PackError, file: Path) -> list[str]:
    """The answers that the problems are about; none where one is about something else."""
    lines = content.splitlines()
    names: list[str] = []
    for problem in error.problems:
        line = lines[problem.line - 1].strip() if problem.line <= len(lines) else ""
        found = [name for name, begin in _PLACES.items() if line.startswith(begin) and name in _QUESTIONS]
        if not problem.file.endswith(file.name) or not found:
            return []
        names += found
    return [field.name for field in fields(Draft) if field.name in names]


# Trying


def _rule(written: Sequence[Rule], id: str) -> Rule:
    return next(rule for rule in written if rule.id == id)


def _tests(rulebook: Any, rule: Rule, given: dict[str, str | None], ask: Callable[..., Any] | None) -> list[RuleTest]:
    """One test that fires and one that stays quiet: as given, else found, else asked for."""
    found: dict[str, RuleTest] = {test.expect: test for test in first_tests(rulebook, rule)}
    play = player(rulebook, rule)
    tests = []
    for expect, written in given.items():
        words = "it fires" if expect == "fires" else "it stays quiet"
        test = found.get(expect) if written is None else _own(expect, written)
        while test is None or play(test) != expect:
            if ask is None:
                what = f"no event was found on which {words}" if test is None else f"on that event {words} not"
                option = "--fires" if expect == "fires" else "--stays-quiet"
                raise RequestRefused(f"{what}: give one with {option} 'amount: 5000.01 CNY, buyer.guest: true'")
            test = _own(expect, ask(f"An event on which {words}, such as: amount: 5000.01 CNY, buyer.guest: true"))
        tests.append(test)
    return tests


def _own(expect: str, written: str) -> RuleTest:
    words = {"fires": "fires on such an event", "quiet": "stays quiet on such an event"}
    return RuleTest.model_validate({"it": words[expect], "event": event_of(written), "expect": expect})


def _write(file: Path, content: str, *, there: bool) -> None:
    if there:
        write_whole(file, content)
        return
    with file.open("x", encoding="utf-8", newline="\n") as new_file:  # what somebody made meanwhile is not overwritten
        new_file.write(content)
