"""`experiment`: questions about rules that are rolled out, and their answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from cli.group import counted
from cli.language import language_option, padded, said, say, term
from cli.opened import with_ledger
from cli.packs import rulebook
from cli.settings import TENANT, pack_options
from engine.archive import Library
from engine.assembly import wall_clock
from engine.errors import RequestRefused, did_you_mean
from engine.experiments import ARMS, Experiment, Result, Standing
from engine.ledger import Ledger
from engine.packs.moments import written_end
from engine.rulebook import Rulebook
from engine.tally import tally

LEAST_SHOWN = 0.0001
"""A smaller p-value is not told apart: nobody's data are so good."""

_tenant = click.option("--tenant", default=TENANT, show_default=True, help="Whose events.")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def experiment() -> None:
    """Experiments: does a rule do what it is for? One question, one sample, one test.

    \b
    Examples:
      arbiter experiment status
      arbiter experiment report large-guests
    """


@experiment.command()
@_tenant
@_json
@pack_options
@language_option
def status(tenant: str, as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """How many units each experiment has in each arm, and how many it needs. Before the sample that was declared is
    full, how the arms differ is not told.

    \b
    Examples:
      arbiter experiment status
      arbiter experiment status --json
    """
    book = rulebook(rules, policies)
    found = _standings(book, tenant, book.experiments)
    if as_json:
        click.echo(json.dumps([each.json() for each in found], ensure_ascii=False, indent=2))
        return
    for each in found:
        click.echo("\n".join(lines(each)) + "\n")
    say(counted(len(found), "experiment"), err=True)


@experiment.command()
@click.argument("name")
@_tenant
@_json
@pack_options
@language_option
def report(name: str, tenant: str, as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """The answer of one experiment, once its sample is full and its outcomes had their time; exit code 1 before.

    It is the same whenever it is asked for: the test is done once, on the first units of each arm.

    \b
    Examples:
      arbiter experiment report large-guests
      arbiter experiment report large-guests --json
    """
    book = rulebook(rules, policies)
    chosen = [each for each in book.experiments if each.name == name]
    if not chosen:
        known = [each.name for each in book.experiments]
        hint = did_you_mean(name, known) or ("one of " + ", ".join(known) if known else "the rulebook has none")
        raise RequestRefused(f"there is no experiment '{name}'; {hint}")
    (found,) = _standings(book, tenant, chosen)
    click.echo(json.dumps(found.json(), ensure_ascii=False, indent=2) if as_json else "\n".join(lines(found)))
    raise SystemExit(int(found.result is None))


def _standings(book: Rulebook, tenant: str, chosen: Sequence[Experiment]) -> list[Standing]:
    async def work(ledger: Ledger) -> list[Standing]:
        library = Library(ledger.database, wall_clock)
        return await tally(ledger, book, chosen, library.find, tenant, wall_clock())

    return with_ledger(work) if chosen else []


def lines(each: Standing) -> Iterator[str]:
    """How far an experiment is, line by line, and its answer once there is one."""
    asked = each.experiment
    yield f"{asked.name}: {asked.question}"
    yield f"  {asked.rule}, {asked.rollout}"
    yield from (_filled(arm, each.units[arm], asked.needed[arm]) for arm in ARMS)
    if each.keyless:
        yield said(f"  {counted(each.keyless, 'finding')} without {asked.rollout.by}, in no arm")
    if each.result is not None:
        yield from _answer(each.result, asked)
    elif each.ready_at is not None:
        yield said(f"  the sample is full; its outcomes have their time until {written_end(each.ready_at)}")
    else:
        yield said("  no result before both arms are full")


def _filled(arm: str, units: int, needed: int) -> str:
    """How many units an arm has of those that it needs, and how many came when it was full."""
    of = said(f"{min(units, needed):>9,} of {counted(needed, 'unit')}")
    more = said(f"; {counted(units - needed, 'later one')} not counted") if units > needed else ""
    return f"  {_arm(arm)}{of}{more}"


def _answer(result: Result, asked: Experiment) -> Iterator[str]:
    for name, arm in result.arms.items():
        yield f"  {_arm(name)}{arm.share:>9.2%} ({said(f'{arm.hits:,} of {arm.units:,}')})"
    interval = f"{1 - asked.alpha:.0%} interval {result.low:+.2%} to {result.high:+.2%}"
    yield said(f"  live less shadow {result.difference:+.2%}, {interval}")
    found = "the arms differ" if result.differs else "no difference was shown"
    p = f"p = {result.p:.4f}" if result.p >= LEAST_SHOWN else f"p < {LEAST_SHOWN}"
    yield f"  {p}: {said(found)}"


def _arm(name: str) -> str:
    return padded(term(name), 7)
