"""`diff`: what one rulebook would have done otherwise than another, as Markdown for whoever decides on the change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from cli.backtest import Run, backtested
from cli.group import counted
from cli.language import label, language_option, listed, said, term
from cli.report import money
from cli.revision import at_revision
from cli.settings import pack_options, settings
from cli.tables import FORMATS, format_of, stamp
from cli.warehouses import engine_options, opened
from engine.backtest import Variant, tallied
from engine.columns import Warehouse, on_duckdb
from engine.difference import difference
from engine.errors import RequestRefused
from engine.packs.moments import BEIJING, day_of
from engine.rulebook import Rulebook, load

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SHARED = {"memory_limit": "2500MB"}
"""DuckDB holds two histories at once."""
_DUCKDB = partial(on_duckdb, _SHARED)
SAMPLE = 3
"""Events shown of each kind of change."""
_WORDS = 160
"""Characters of a condition that are shown."""


@dataclass(frozen=True)
class Flip:
    """Events whose verdict changes from one to another: how many, how many of them fraud, what they are worth, of how
    many customers. `sample` are some of them."""

    before: str
    after: str
    events: int
    bad: int
    worth: int
    customers: int
    sample: tuple[Flipped, ...]


@dataclass(frozen=True)
class Flipped:
    """One event whose verdict changes, and how each rulebook judged it."""

    row: int
    event_id: str
    at: int
    bad: bool
    worth: int | None
    before: Variant
    after: Variant


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--data", required=True, type=_FILE, help="A table: CSV, TSV, JSON lines or Parquet.")
@click.option("--map", "mapping", required=True, type=_FILE, help="Which columns make which fields: docs/cli.md.")
@click.option("--in-format", type=click.Choice(FORMATS), help="Format of the table, where its name does not say.")
@click.option("--label-delay", metavar="7d", help="How long after its event an outcome is known, instead of the map's.")
@click.option("--sample", default=SAMPLE, show_default=True, type=click.IntRange(0, 50),
              help="Events shown of each kind of change.")  # fmt: skip
@engine_options
@pack_options
@language_option
def diff(
    old: str,
    new: str,
    data: Path,
    mapping: Path,
    in_format: str | None,
    label_delay: str | None,
    sample: int,
    engine: str,
    spark_url: str | None,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """What the rulebook NEW would have done otherwise than OLD with a history, as Markdown for a pull request.

    Each is a revision of git (a commit, a branch, a tag) of the folders of rules and policies, or a folder with rules/
    and policies/ in it. The text says which rules were added, changed and removed; which verdicts change, from what to
    what; how much of that is fraud, whose and worth how much; and shows some of the events with the rules behind them.

    \b
    Examples:
      arbiter diff main . --data orders.parquet --map orders.map.yaml
      arbiter diff v1.4 HEAD --data orders.csv --map orders.map.yaml --sample 5 > change.md
    """
    kind = format_of(data, in_format)
    given = settings(rules, policies)
    with (
        _book(old, given.rules, given.policies) as before,
        _book(new, given.rules, given.policies) as after,
    ):
        opening = partial(opened, engine, spark_url, _SHARED)
        names = (old, new)
        for line in compared(before, after, names, data, kind, mapping, opening, delay=label_delay, sample=sample):
            click.echo(line)


def compared(
    before: Rulebook,
    after: Rulebook,
    names: tuple[str, str],
    data: Path,
    kind: str,
    mapping: Path,
    opening: Callable[[], AbstractContextManager[Warehouse]] = _DUCKDB,
    *,
    delay: str | None = None,
    sample: int = SAMPLE,
) -> Iterator[str]:
    """The Markdown of two rulebooks, called by `names`, over the table `data`, whose format is `kind`; each gets a
    warehouse by `opening`."""
    with opening() as first, opening() as second:
        one = backtested(first, before, data, kind, mapping, delay=delay)
        other = backtested(second, after, data, kind, mapping, delay=delay)
        yield from markdown(names, one, other, flips(one, other, sample))


@contextmanager
def _book(name: str, rules: Path, policies: Path) -> Iterator[Rulebook]:
    folder = Path(name)
    if (folder / "rules").is_dir() and (folder / "policies").is_dir():
        yield load(folder / "rules", folder / "policies")
        return
    if folder.is_dir():
        raise RequestRefused(f"{name} has no folders rules and policies in it")
    with at_revision(name, rules, policies) as (then_rules, then_policies):
        yield load(then_rules, then_policies)


# What flips


def flips(one: Run, other: Run, sample: int) -> list[Flip]:
    """The changes of verdict between two runs over one table, those of most events first."""
    here = other.past.warehouse
    table = one.judged.table.select("row", "variant")
    theirs = here.put("before", one.past.warehouse.arrow(table)).rename(old_row="row", old="variant")
    was, now = (
        here.put(name, _verdicts(run.judged.variants)).rename({f"{name}_number": "number", name: "verdict"})
        for name, run in (("was", one), ("becomes", other))
    )
    joined = other.judged.table.join(theirs, other.judged.table.row == theirs.old_row)
    joined = joined.join(was, joined.old == was.was_number)
    joined = joined.join(now, joined.variant == now.becomes_number)
    flipped = here.keep("flipped", joined.filter(joined.was != joined.becomes))
    return sorted(_grouped(here, flipped, one, other, sample), key=lambda each: (-each.events, each.before, each.after))


def _verdicts(variants: Sequence[Variant]) -> Any:
    verdicts = [each.outcome.verdict for each in variants]
    return pa.table({"number": pa.array(range(len(verdicts)), pa.int64()), "verdict": pa.array(verdicts, pa.string())})


def _grouped(here: Any, flipped: Any, one: Run, other: Run, sample: int) -> Iterator[Flip]:
    grouped = flipped.group_by("was", "becomes").agg(**tallied(flipped), customers=flipped.customer.nunique())
    for row in here.arrow(grouped).to_pylist():
        some = flipped.filter((flipped.was == row["was"]) & (flipped.becomes == row["becomes"]))
        # By a hash of the id: nobody chooses, and the same ones again.
        some = some.order_by(some.event_id.hexdigest("md5"), "row").limit(sample)
        shown = tuple(
            Flipped(
                each["row"],
                each["event_id"],
                each["at"],
                bool(each["bad"]),
                each["worth"],
                one.judged.variants[each["old"]],
                other.judged.variants[each["variant"]],
            )
            for each in here.arrow(some).to_pylist()
        )
        events, bad, worth, customers = (int(row[name] or 0) for name in ("events", "fraud", "money", "customers"))
        yield Flip(row["was"], row["becomes"], events, bad, worth, customers, shown)


# Markdown


def markdown(names: tuple[str, str], one: Run, other: Run, found: Sequence[Flip]) -> Iterator[str]:
    """The whole text."""
    yield f"# {said(f'From {_code(names[0])} to {_code(names[1])}')}"
    yield ""
    yield said(f"Rulebooks {_code(one.book.hash[:12])} and {_code(other.book.hash[:12])}, over {_history(other)}.")
    yield ""
    yield from _changes(one.book, other.book)
    yield f"## {term('Verdicts')}"
    yield ""
    yield from _verdict_table(one, other)
    yield ""
    yield from _summary(other, found)
    for flip in found:
        yield from _flip(flip, one, other)


def _history(run: Run) -> str:
    figures = run.figures
    return (
        f"{counted(figures.all.events, run.table.kind)} of {run.table.name}, "
        f"{day_of(figures.first)} to {day_of(figures.last)}"
    )


def _changes(before: Rulebook, after: Rulebook) -> Iterator[str]:
    changes = difference(before, after)
    yield f"## {said('What changed')}"
    yield ""
    changed = False
    for kind in ("rules", "policies", "lists"):
        for how in ("added", "changed", "removed"):
            names = changes[kind][how]
            if names:
                changed = True
                yield f"- {label(f'{kind} {how}')}{', '.join(map(_code, names))}"
    others = [name for how in ("added", "changed", "removed") for name in changes["files"][how]]
    if others:
        yield f"- {label('files')}{', '.join(map(_code, others))}"
    else:
        yield "" if changed else f"- {said('no file')}"
    yield ""


_HEAD = ("verdict", "before", "after", "fraud before", "fraud after")


def _verdict_table(one: Run, other: Run) -> Iterator[str]:
    yield f"| {' | '.join(map(term, _HEAD))} |"
    yield "|---|---:|---:|---:|---:|"
    before = {each.verdict: each.tally for each in one.figures.verdicts}
    after = {each.verdict: each.tally for each in other.figures.verdicts}
    for verdict in dict.fromkeys((*before, *after)):
        was, now = before.get(verdict), after.get(verdict)
        events = [f"{each.events:,}" if each else "–" for each in (was, now)]
        frauds = [f"{each.bad:,}" if each and other.figures.labelled else "–" for each in (was, now)]
        yield f"| {verdict} | {' | '.join((*events, *frauds))} |"


def _summary(run: Run, found: Sequence[Flip]) -> Iterator[str]:
    events = sum(each.events for each in found)
    if not events:
        yield said("No verdict changes.")
        return
    worth = money(sum(each.worth for each in found), run.figures.currency)
    customers = run.past.warehouse.table("flipped").customer.nunique()
    number = run.past.warehouse.arrow(customers.name("customers").as_table())["customers"][0].as_py()
    share = events / run.figures.all.events
    yield said(f"{counted(events, 'verdict')} ({share:.2%}) change: {counted(number, 'customer')}, {worth}.")
    yield ""


def _flip(flip: Flip, one: Run, other: Run) -> Iterator[str]:
    yield f"### {label(f'{flip.before} → {flip.after}')}{said(counted(flip.events, 'event'))}"
    yield ""
    fraud = [f"{flip.bad:,} of them fraud"] if other.figures.labelled else []
    yield listed((*fraud, counted(flip.customers, "customer"), money(flip.worth, other.figures.currency))) + term(".")
    yield ""
    for each in flip.sample:
        amount = [] if each.worth is None else [money(each.worth, other.figures.currency)]
        about = [f"row {each.row}", _code(each.event_id), stamp(each.at, BEIJING), *amount, *[term("fraud")] * each.bad]
        scores = said(f"score {each.before.outcome.score} → {each.after.outcome.score}")
        yield f"- {label(listed(about))}{scores}"
        yield from _why(each, one, other)
    yield ""


def _why(flipped: Flipped, one: Run, other: Run) -> Iterator[str]:
    """The rules that fired before or after alone, and the steps of the policy that are not the same."""
    before, after = ({rule.id: rule for rule in run.book.kinds[run.past.kind].rules} for run in (one, other))
    was = {list(before)[at] for at in flipped.before.fired}
    now = {list(after)[at] for at in flipped.after.fired}
    for word, names, rules in (("no more", was - now, before), ("now", now - was, after)):
        for name in sorted(names):
            yield f"  - {term(word)} {_code(name)}: {_code(_short(rules[name].condition.text))}"
    for name in sorted(was & now):
        if before[name].finding.points != after[name].finding.points:
            points = said(f"{before[name].finding.points} → {after[name].finding.points} points")
            yield f"  - {_code(name)}: {points}"
    steps = [step for step in flipped.after.outcome.steps if step not in flipped.before.outcome.steps]
    for step in steps:
        yield f"  - {label('policy')}{term(step.by)} {step.name}, {step.before} → {step.after}"


def _short(text: str) -> str:
    return text if len(text) <= _WORDS else f"{text[:_WORDS]} …"


def _code(text: str) -> str:
    """As code in Markdown, whatever stands in it."""
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{text}{ticks}"
