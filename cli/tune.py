"""`tune`: which threshold keeps a limit, and which points fit; fitted on the past, reported on what came after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from cli import scorecard, tuned
from cli.language import language_option
from cli.observing import Sample, opened
from cli.settings import pack_options
from cli.tables import FORMATS
from cli.tunable import chosen, of_anomaly, of_policy, of_rule
from cli.tunedraft import refuse_taken, stem, write_rule
from engine.errors import FieldProblem, RequestRefused
from engine.money import Money
from engine.packs.durations import duration
from engine.packs.moments import start_of
from engine.tuning import FEWEST_FRAUDS, Goal, read_limit
from engine.tuning import tuned as fitted

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Wanted:
    """What is to be tuned, and how, as the options say it."""

    rule: str | None
    literal: int | None
    verdict: str | None
    tier: str | None
    anomaly: bool
    scorecard: str | None
    bands: int
    free: bool
    limits: tuple[str, ...]
    alert_cost: str | None
    out: Path | None
    as_json: bool


def _history_options(command: F) -> F:
    """Adds the table, how it is read, and where the part to fit on ends."""
    for option in reversed((
        click.option("--data", required=True, type=_FILE, help="A table: CSV, TSV, JSON lines or Parquet."),
        click.option("--map", "mapping", required=True, type=_FILE,
                     help="Which columns make which fields: docs/cli.md."),
        click.option("--in-format", type=click.Choice(FORMATS),
                     help="Format of the table, where its name does not say."),
        click.option("--label-delay", metavar="7d",
                     help="How long after its event an outcome is known, instead of the map's."),
        click.option("--fit-until", metavar="DAY", help="Where the part to fit on ends; after two thirds when absent."),
    )):  # fmt: skip
        command = option(command)
    return command


@click.command()
@_history_options
@click.option("--rule", metavar="ID", help="The threshold of a rule.")
@click.option(
    "--literal", type=click.IntRange(min=1), metavar="N", help="Which of its thresholds, where it has several."
)
@click.option("--verdict", metavar="VERDICT", help="The score from which the policy gives a verdict.")
@click.option("--tier", metavar="T", help="Merchants of this tier; the policy's default one when absent.")
@click.option("--anomaly", is_flag=True, help="The percentile of the anomaly model in force.")
@click.option("--scorecard", metavar="EXPR,...", help="Bands and points of these fields or expressions.")
@click.option("--bands", type=click.IntRange(2, 12), default=5, show_default=True, help="Most bands of a feature.")
@click.option("--free", is_flag=True, help="Points may rise and fall along a feature.")
@click.option("--limit", "limits", metavar="LIMIT", multiple=True,
              help="What to keep: 'fpr <= 0.5%', 'alerts <= 50/d', 'precision >= 30%', 'recall >= 80%'.")  # fmt: skip
@click.option("--alert-cost", metavar="AMOUNT",
              help="What an alert costs, such as '12 CNY': suggests what is worth most within the limits.")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A new file for the draft, in the shadow.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@pack_options
@language_option
def tune(
    data: Path,
    mapping: Path,
    in_format: str | None,
    label_delay: str | None,
    fit_until: str | None,
    rules: Path | None,
    policies: Path | None,
    **options: Any,
) -> None:
    """The curve of a threshold, the best one within limits, or the points of a scorecard: fitted on the first part of a
    history, reported on the rest.

    The threshold is one of a rule (--rule), of a policy's score (--verdict) or of the anomaly model (--anomaly). With
    --limit it suggests the value that catches most within the limits on the first part, with --alert-cost the one that
    is worth most, and says what the same value does on the rest, beside the present one. With --scorecard it divides
    features into bands, fits points to them and says how well they rank what came after.

    Nothing is changed. --out writes a draft into a new file, in the shadow. Exit code 1 when no threshold keeps the
    limits, or none is worth its alerts.

    \b
    Examples:
      arbiter tune --data orders.csv --map orders.map.yaml --rule gift.large
      arbiter tune --data orders.csv --map orders.map.yaml --rule gift.large --limit "fpr <= 0.5%" --out rules/less.yaml
      arbiter tune --data orders.csv --map orders.map.yaml --verdict review --tier watched --limit "alerts <= 50/d"
      arbiter tune --data orders.csv --map orders.map.yaml --anomaly --limit "precision >= 20%"
      arbiter tune --data orders.csv --map orders.map.yaml --scorecard "amount in CNY, hour(at)" --out rules/card.yaml
    """
    wanted = Wanted(**options)
    problems = [*_wrong(wanted), *_unreadable(wanted, label_delay, fit_until)]
    if problems:
        raise RequestRefused("the options do not go together", problems)
    until = None if fit_until is None else start_of(fit_until)
    sample = opened(data, mapping, in_format, label_delay, until, rules, policies)
    if wanted.out is not None:
        refuse_taken(sample, wanted.out)
    raise SystemExit(int(not (_card if wanted.scorecard is not None else _threshold)(sample, wanted)))


def _goal(wanted: Wanted, currency: str) -> Goal:
    """What a threshold is chosen by; figures are in a currency. Raises RequestRefused where the cost is in another."""
    limits = tuple(map(read_limit, wanted.limits))
    if wanted.alert_cost is None:
        return Goal(limits)
    cost = _cost(wanted.alert_cost)
    if cost.currency != currency:
        raise RequestRefused(f"--alert-cost {cost}: the figures are in {currency}, so it must be, too")
    return Goal(limits, int(cost.minor))


def _threshold(sample: Sample, wanted: Wanted) -> bool:
    """Tune a threshold and tell; whether one is suggested where that is asked for."""
    of = chosen(sample, wanted.rule, wanted.literal) if wanted.rule is not None else None
    if of is not None:
        subject = of_rule(sample, of.rule, of.threshold)
    else:
        subject = of_anomaly(sample) if wanted.anomaly else of_policy(sample, str(wanted.verdict), wanted.tier)
    goal = _goal(wanted, subject.currency)
    periods = sample.periods(subject.observed.at, subject.observed.bad, FEWEST_FRAUDS if goal.given else 1)
    found = fitted(subject, periods, goal)
    if wanted.out is not None and of is not None and found.suggested is not None:
        write_rule(sample, of, found.suggested, wanted.out)
    _say(wanted, tuned.in_json(found, wanted.out), tuned.printed(found, wanted.out))
    return found.suggested is not None or not goal.given


def _card(sample: Sample, wanted: Wanted) -> bool:
    """Fit a scorecard and tell; whether a score to act from is suggested where that is asked for."""
    found = scorecard.carded(sample, str(wanted.scorecard), partial(_goal, wanted), wanted.bands, free=wanted.free)
    if wanted.out is not None:
        scorecard.draft(sample, found, wanted.out)
    _say(wanted, scorecard.in_json(found, wanted.out), scorecard.printed(found, wanted.out))
    return found.threshold.suggested is not None or not found.threshold.goal.given


def _say(wanted: Wanted, data: dict[str, Any], lines: Iterator[str]) -> None:
    click.echo(json.dumps(data, ensure_ascii=False, indent=2) if wanted.as_json else "\n".join(lines))


# The options


def _wrong(wanted: Wanted) -> Iterator[FieldProblem]:
    """Options that do not go together, and drafts that cannot be written."""
    asked = [wanted.rule is not None, wanted.verdict is not None, wanted.anomaly, wanted.scorecard is not None]
    if sum(asked) != 1:
        what = "say what is to be tuned, one of them"
        yield _problem("--rule ID, --verdict VERDICT, --anomaly or --scorecard EXPR,...", what)
    goes = (
        ("--literal", wanted.literal is not None, "--rule", wanted.rule is not None),
        ("--tier", wanted.tier is not None, "--verdict", wanted.verdict is not None),
        ("--free", wanted.free, "--scorecard", wanted.scorecard is not None),
    )
    for option, given, needed, there in goes:
        if given and not there:
            yield _problem(option, f"it goes with {needed}")
    if wanted.out is not None:
        yield from _no_draft(wanted, wanted.out)


def _no_draft(wanted: Wanted, out: Path) -> Iterator[FieldProblem]:
    if wanted.verdict is not None or wanted.anomaly:
        what = "a policy has no shadow, so no draft of one is written"
        yield _problem("--out", what, "change it in a branch and see what it does with `arbiter diff`")
        return
    if wanted.rule is not None and not wanted.limits and wanted.alert_cost is None:
        what = "without a --limit or an --alert-cost nothing is suggested, so there is nothing to draft"
        yield _problem("--out", what)
    if out.exists():
        yield _problem("--out", f"{out} exists already; what stands there is never overwritten")
    if out.suffix not in (".yaml", ".yml"):
        yield _problem("--out", f"{out}: a draft is a file of rules: name it .yaml")
    elif (why := _why(stem, out)) is not None:
        yield _problem("--out", f"{out}: {why}")
    if not out.parent.is_dir():
        yield _problem("--out", f"there is no folder {out.parent}")


def _unreadable(wanted: Wanted, label_delay: str | None, fit_until: str | None) -> Iterator[FieldProblem]:
    """Options with values that say nothing."""
    given: list[tuple[str, Callable[[Any], Any], str]] = [("--limit", read_limit, each) for each in wanted.limits]
    given += [("--alert-cost", _cost, wanted.alert_cost)] if wanted.alert_cost is not None else []
    given += [("--label-delay", duration, label_delay)] if label_delay is not None else []
    given += [("--fit-until", start_of, fit_until)] if fit_until is not None else []
    for option, reader, value in given:
        if (why := _why(reader, value)) is not None:
            yield _problem(option, f"'{value}': {why}")


def _cost(text: str) -> Money:
    cost = Money.parse(text)
    if cost.minor < 0:
        raise ValueError("an alert costs nothing or something, not less")
    return cost


def _why(reader: Callable[[Any], Any], value: Any) -> str | None:
    """Why a value cannot be read, None where it can."""
    try:
        reader(value)
    except ValueError as error:
        return str(error)
    return None


def _problem(option: str, what: str, hint: str = "") -> FieldProblem:
    return FieldProblem(option, "option", what, hint)
