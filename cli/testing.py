"""`test`: the tests of rules and policies, what they have seen, and what they would not notice."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from cli.group import counted, tell
from cli.language import language_option, padded, rendered, said, say, term
from cli.mutating import mutated, mutation_data, mutation_lines
from cli.packs import Found, as_data, examined, parts, paths_argument
from cli.settings import pack_options, settings
from engine.coverage import Coverage, coverage
from engine.errors import RequestRefused

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%")


class Share(click.ParamType[Decimal]):
    """A share such as 90%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """The share as a part of one."""
        if isinstance(value, Decimal):
            return value
        match = _SHARE.fullmatch(str(value))
        if match is None or Decimal(match[1]) > 100:
            self.fail(said(f"'{value}' is no share; write one such as 90%"), param, ctx)
        return Decimal(match[1]) / 100


@click.command()
@paths_argument
@click.option("--only", multiple=True, metavar="NAME", help="Only the tests of this rule or suite; may be repeated.")
@click.option("--coverage", "covered", is_flag=True, help="What the tests have seen, and what they have not.")
@click.option("--mutate", is_flag=True, help="Change each rule a little; say which changes no test notices.")
@click.option("--min-score", type=Share(), metavar="SHARE", help="With --mutate: exit code 1 below, such as 90%.")
@click.option("--no-search", is_flag=True, help="With --mutate: do not look for the tests that are missing.")
@click.option("--jobs", type=click.IntRange(1), help="With --mutate: processes; as many as processors when absent.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@pack_options
@language_option
def test(
    paths: tuple[Path, ...],
    only: tuple[str, ...],
    covered: bool,
    mutate: bool,
    min_score: Decimal | None,
    no_search: bool,
    jobs: int | None,
    as_json: bool,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """Run the tests written beside the rules, and the suites (NAME_test.yaml), and list each with its sentence. Exit
    code 1 when one fails.

    --mutate changes each rule in one place at a time: a limit by a step and by far, < for <=, and for or, a question,
    a not or a value of a list left out, a window longer or shorter. A change that makes no test fail is shown with
    the test that would have noticed it, to be read, and pasted below the rule's tests.

    \b
    Examples:
      arbiter test
      arbiter test rules/payments --coverage
      arbiter test --only card-testing.burst
      arbiter test rules/payments/card-testing.yaml --mutate
      arbiter test --mutate --no-search --min-score 90%
    """
    if not mutate and (min_score is not None or no_search or jobs is not None):
        raise RequestRefused("--min-score, --no-search and --jobs go with --mutate")
    found = examined(paths, rules, policies, only)
    if found.problems and (mutate or covered or not found.trials):
        tell(found.problems)
        raise SystemExit(1)
    data: dict[str, Any] = {}
    failed = bool(found.problems)
    if covered:
        data["coverage"] = _covered(found, as_json)
    if mutate:
        given = settings(rules, policies)
        with parts(given.rules, given.policies, paths, everything=not paths) as looked_at:
            # What was tried may lie in a copy that is gone by now.
            still = [replace(tried, part=part) for part, tried in zip(looked_at, found.tried, strict=True)]
            results = mutated(still, jobs or os.cpu_count() or 1, search=not no_search)
        data["mutants"] = mutation_data(results)
        if not as_json:
            click.echo("\n".join(mutation_lines(results)))
        failed = failed or (min_score is not None and results.score < min_score)
    if as_json:
        click.echo(json.dumps(as_data(found) | data, ensure_ascii=False, indent=2))
    elif not (covered or mutate):
        _list(found)
    raise SystemExit(int(failed))


def _list(found: Found) -> None:
    """Every test with how it went."""
    for trial in found.trials:
        mark = term("ok" if trial.problem is None else "FAILED")
        click.echo(f"{padded(mark, 6)}  {trial.rule}: {trial.it}")
    for problem in found.problems:
        click.echo("\n" + rendered(problem))
    click.echo("\n" + said(f"{counted(len(found.trials), 'test')}, {found.failed} failed"))


# Coverage


def _covered(found: Found, as_json: bool) -> dict[str, Any]:
    """What the tests have seen; shown too, where no JSON is asked for."""
    seen = [coverage(tried.rulebook, rule) for tried in found.tried for rule in tried.rules]
    if not as_json:
        _tell_coverage(seen)
    return {
        "rules": {"total": len(seen), "whole": sum(not list(each.unseen()) for each in seen)},
        "questions": {"total": _asked(seen), "whole": _wholly_seen(seen)},
        "by_rule": [
            {
                "rule": each.rule,
                "seen": sorted(each.ends),
                "questions": [{"asks": one.asks, "seen": sorted(one.answers)} for one in each.questions],
                "unseen": list(each.unseen()),
            }
            for each in seen
        ],
    }


def _tell_coverage(seen: list[Coverage]) -> None:
    for each in seen:
        unseen = list(each.unseen())
        if unseen:
            click.echo(each.rule)
            click.echo("".join(f"  {said(words)}\n" for words in unseen))
    whole = sum(not list(each.unseen()) for each in seen)
    questions = f"{_wholly_seen(seen):,} of {counted(_asked(seen), 'question')}"
    say(f"{counted(len(seen), 'rule')}, {whole:,} of them seen in every way; {questions} seen true and false")


def _asked(seen: list[Coverage]) -> int:
    return sum(len(each.questions) for each in seen)


def _wholly_seen(seen: list[Coverage]) -> int:
    return sum(one.whole for each in seen for one in each.questions)
