"""`score`: a table of events judged without a server."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson

from cli.group import counted
from cli.language import language_option, padded, said, said_field, say, term
from cli.packs import rulebook
from cli.progress import progress
from cli.replay import Replay, Tally
from cli.settings import pack_options, settings
from cli.tables import FORMATS, Bad, Rows, Scored, format_of, read_rows, written
from engine.decide import Decision
from engine.detectors import read_models
from engine.errors import FieldProblem, RequestRefused
from engine.mapping import Table, read_map
from engine.schema import Event

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True)
_FORMAT = click.Choice(FORMATS)
MAX_SHOWN = 5


@click.command()
@click.argument("table", metavar="FILE|-", type=_FILE)
@click.option("--map", "mapping", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Which columns make which fields: docs/cli.md.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
              help="Where the verdicts go; - is standard output.")  # fmt: skip
@click.option("--in-format", type=_FORMAT, help="Format of FILE, where its name does not say.")
@click.option("--out-format", type=_FORMAT, help="Format of the verdicts, where the name does not say.")
@click.option("--strict", is_flag=True, help="Exit code 1 when a row was rejected.")
@pack_options
@language_option
def score(
    table: Path,
    mapping: Path,
    out: Path,
    in_format: str | None,
    out_format: str | None,
    strict: bool,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """Judge every row of a table (CSV, TSV, JSON lines or Parquet), as a server would have.

    Rows are taken in the order of time, whatever their order in the file, and windows hold what was known at each
    moment: outcomes only after their delay. Nothing is stored; no database and no key file are needed. The verdicts
    come out in the order of time, with the columns row, event_id, at, verdict, score, anomaly, signals and reasons.

    Rows that are no events go to OUT.rejected.jsonl with their number and the reasons, each with the columns it is
    about, never with their values.

    \b
    Examples:
      arbiter score orders.csv --map orders.map.yaml --out verdicts.csv
      arbiter score orders.parquet --map orders.map.yaml --out verdicts.parquet --rules my/rules
      zcat orders.csv.gz | arbiter score - --in-format csv --map orders.map.yaml --out - --out-format jsonl
    """
    kinds = format_of(table, in_format), format_of(out, out_format)
    if any(each.exists() and out.exists() and each.samefile(out) for each in (table, mapping)):
        raise RequestRefused(f"--out {out} would be written over what is read; choose another name")
    book = rulebook(rules, policies)
    mapped = read_map(mapping, book.schema)
    with _opened(table) as source:
        rows = read_rows(source, str(table), kinds[0], mapped.columns, mapped.check)
    models = read_models(settings().model_dir, book.detectors, strict=True)
    replay = Replay(book, mapped, rows, models)
    with written(out, kinds[1]) as writer, _rejects(out, mapped) as reject, progress(len(rows), "judging") as step:

        def told(row: int, event: Event, decision: Decision) -> None:
            record = decision.record
            result = (record["verdict"], record["score"], record["anomaly"], record["signals"], record["reasons"])
            writer.write(Scored(row, event.id, event.at, *result))

        tally = replay.run(told, reject, step=step)
    _summary(tally, mapped, rows, out)
    raise SystemExit(int(bool(strict and tally.refused)))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    with path.open("rb") as source:
        yield source


@contextmanager
def _rejects(out: Path, mapped: Table) -> Iterator[Callable[[Bad], None]]:
    """Takes rows that were refused: into OUT.rejected.jsonl, or the first few to standard error where OUT is '-'."""
    if str(out) == "-":
        shown: Counter[str] = Counter()

        def show(bad: Bad) -> None:
            shown["rows"] += 1
            if shown["rows"] <= MAX_SHOWN:
                say(f"row {bad[0]}: {'; '.join(_in_columns(one, mapped) for one in bad[1])}", err=True)

        yield show
        return
    path = rejected(out)
    path.unlink(missing_ok=True)
    kept: list[BinaryIO] = []

    def keep(bad: Bad) -> None:
        if not kept:
            kept.append(path.open("wb"))
        row, problems = bad
        reasons = [_as_data(one, mapped) for one in problems]
        kept[0].write(orjson.dumps({"row": row, "reasons": reasons}, option=orjson.OPT_APPEND_NEWLINE))

    try:
        yield keep
    finally:
        for file in kept:
            file.close()


def _as_data(problem: FieldProblem, mapped: Table) -> dict[str, Any]:
    columns = mapped.sources(problem.path)
    return {"path": problem.path, "columns": columns, "code": problem.code, "what": problem.what, "hint": problem.hint}


def _in_columns(problem: FieldProblem, mapped: Table) -> str:
    columns = ", ".join(mapped.sources(problem.path))
    return said(f"{problem.path} (column {columns}): {problem.what}") if columns else said_field(problem)


def rejected(out: Path) -> Path:
    """Where the rows go that are no events."""
    return out.with_name(f"{out.name}.rejected.jsonl")


def _summary(tally: Tally, mapped: Table, rows: Rows, out: Path) -> None:
    known = f", {counted(tally.outcomes, 'outcome')} known by then" if mapped.delay is not None else ""
    lines = [said(f"{mapped.name}: {counted(tally.events, mapped.kind)} judged{known}")]
    for verdict, count in tally.verdicts.most_common():
        lines.append(f"  {verdict:<12}{count:>12,}  {count / max(1, tally.events):>8.2%}")
    if tally.refused:
        where = "" if str(out) == "-" else said(f", see {rejected(out)}")
        lines.append(f"  {padded(term('rejected'), 12)}{tally.refused:>12,}{where}")
    done = tally.events + tally.outcomes
    if done:
        speed = f"{done / tally.seconds:,.0f} events/s, {tally.seconds / done * 1e6:,.0f} µs each"
        lines.append(said(f"{tally.seconds:,.1f} s, {speed}"))
    assert tally.events + tally.refused >= len(rows), "every row is judged or refused"
    click.echo("\n".join(lines), err=True)
