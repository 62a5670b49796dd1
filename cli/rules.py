"""`rule new`: a rule with its tests, from answers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from cli.draft import Draft, added, event_of, in_half_a_year
from cli.language import language_option, rendered, said, say, term
from cli.settings import pack_options, settings
from cli.trying import tried
from cli.writing import write_whole
from engine.errors import PackError, Problem, RequestRefused
from engine.mutation import first_tests
from engine.packs import read
from engine.rulebook import Rulebook
from engine.rules import Rule, RuleTest
from engine.trial import player, try_rules

_POINTS = {"info": 0, "low": 15, "medium": 30, "high": 45, "critical": 85}
"""By severity, for who has no other wish."""
_POINTS_RANGE = click.IntRange(0, 1000)
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
_PLACES = {"when": "when:", "signal": "signal:", "en": "en:", "zh": "zh:", "kinds": "for:"}
"""Which answer stands on a line of the file that begins so."""
_FILLERS: Mapping[str, Any] = MappingProxyType(
    {"about": "…", "owner": "…", "when": "at == at", "signal": "found", "en": "…", "zh": "…", "severity": "medium"}
    | {"points": _POINTS["medium"]}
)
"""What stands for answers that were not given yet: nothing is wrong with them, whatever the kind of event."""


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
@click.option("--points", type=_POINTS_RANGE, help="What it adds to the score.")
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
    place = _Place(given.rules, given.policies, file, there)
    ask = _ask if sys.stdin.isatty() else None
    draft = _answered(Draft(id=id, review_by=review_by or in_half_a_year(), mode=mode, **_FILLERS), answers, place, ask)
    if ask is not None:
        draft = _mended(draft, place, ask)
    with place.tried(draft) as (rulebook, written):
        tests = _tests(rulebook, _rule(written, id), {"fires": fires, "quiet": stays_quiet}, ask)
    with place.tried(draft, tests) as (rulebook, written):
        problems = [trial.problem for trial in try_rules(rulebook, [_rule(written, id)]) if trial.problem]
        if problems:
            raise PackError(problems)
    content = place.content(draft, tests)
    _write(file, content, there=there)
    click.echo(content if not there else draft.rule(tests), nl=False)
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


@dataclass(frozen=True)
class _Place:
    """Where a draft is to stand: a file of the rules that is there or not."""

    rules: Path
    policies: Path
    file: Path
    there: bool

    def content(self, draft: Draft, tests: Sequence[RuleTest] = ()) -> str:
        """The file as it would be."""
        if self.there:
            return added(draft, self.file, self.rules, tests)
        return draft.pack(self.file.relative_to(self.rules).with_suffix("").as_posix(), tests)

    def tried(
        self, draft: Draft, tests: Sequence[RuleTest] = ()
    ) -> AbstractContextManager[tuple[Rulebook, tuple[Rule, ...]]]:
        """The rulebook with it, in a copy, and its rules of this file. Raises PackError."""
        return tried(self.content(draft, tests), self.rules, self.policies, self.file)

    def problems(self, draft: Draft) -> list[tuple[Problem, str | None]]:
        """What is wrong with a draft, and which answer each is about; None where it is about something else."""
        try:
            with self.tried(draft):
                return []
        except PackError as error:
            lines = self.content(draft).splitlines()
            return [(problem, self._answer(problem, lines)) for problem in error.problems]

    def _answer(self, problem: Problem, lines: Sequence[str]) -> str | None:
        if not problem.file.endswith(self.file.name) or problem.line > len(lines):
            return None
        line = lines[problem.line - 1].strip()
        return next((name for name, begin in _PLACES.items() if line.startswith(begin)), None)


def _answered(draft: Draft, answers: dict[str, Any], place: _Place, ask: Callable[..., Any] | None) -> Draft:
    """The draft with all answers: what no option says is asked for, or what is missing told at once."""
    wanted = [name for name in _QUESTIONS if not (place.there and name in ("kinds", "about", "owner"))]
    missing = [name for name in wanted if answers[name] is None]
    given = {name: _read(name, value) for name, value in answers.items() if value is not None}
    if "severity" in given and "points" not in given:
        given["points"] = _POINTS[given["severity"]]
        missing.remove("points")
    draft = replace(draft, **given)
    if ask is None:
        if needed := [name for name in missing if name not in ("severity", "points")]:
            options = ", ".join("--" + {"kinds": "for"}.get(name, name) for name in needed)
            raise RequestRefused(f"nobody is there to be asked: give {options}")
        return draft
    for name in missing:
        draft = _asked(name, draft, place, ask)
    return draft


def _asked(name: str, draft: Draft, place: _Place, ask: Callable[..., Any]) -> Draft:
    """The draft with an answer that makes sense. What is not answered yet is filled in so that nothing is wrong with
    it."""
    default = {"severity": draft.severity, "points": _POINTS[draft.severity]}.get(name)
    while True:
        draft = replace(draft, **{name: _read(name, ask(_QUESTIONS[name], default))})
        wrong = [problem for problem, about in place.problems(draft) if about == name] if name in _PLACES else []
        if not wrong:
            return draft
        for problem in wrong:
            click.echo(rendered(problem), err=True)


def _read(name: str, told: Any) -> Any:
    return tuple(each.strip() for each in told.split(",") if each.strip()) if name == "kinds" else told


def _ask(question: str, default: Any = None) -> Any:
    kind = click.Choice(list(_POINTS)) if default in _POINTS else _POINTS_RANGE if isinstance(default, int) else str
    return click.prompt(said(question), default=default, type=kind, show_choices=False)


def _mended(draft: Draft, place: _Place, ask: Callable[..., Any]) -> Draft:
    """The draft once nothing is wrong with it: what options say wrongly is asked for. Raises PackError for all else."""
    while found := place.problems(draft):
        again = [name for name in _QUESTIONS if name in {about for _, about in found}]
        if any(about is None for _, about in found):
            raise PackError([problem for problem, _ in found])
        for problem, _ in found:
            click.echo(rendered(problem), err=True)
        for name in again:
            draft = _asked(name, draft, place, ask)
    return draft


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
