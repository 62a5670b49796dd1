"""`list import` and `list ask`: many entries at once, with what changes shown first; what a list has on a value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cli.group import counted
from cli.language import label, language_option, rendered, said, say
from cli.settings import pack_options, settings
from engine.assembly import wall_clock
from engine.disguise import read as reading_of
from engine.errors import PackError, Problem, RequestRefused, did_you_mean
from engine.garbage import uncollected
from engine.lists import read_list
from engine.lists.files import Row, as_written
from engine.lists.imports import (
    Plan,
    left_out_in_words,
    new_list,
    planned,
    rows_of_csv,
    rows_of_text,
    rows_published,
    source_of,
)
from engine.lists.nearness import Names
from engine.lists.phrases import Disguised
from engine.lists.published import FORMS, Download, Publication, download, read_published
from engine.lists.tables import NEVER
from engine.packs import Document, parse, read, read_all
from engine.packs.moments import start_of, written_end

SHOWN = 5
"""Entries of each kind of change that a preview shows, unless --show says otherwise."""
SHOWN_PROBLEMS = 50
MAY_REMOVE = 10
"""Percent of the entries that an import may remove without being told so."""

_ABOUT = {
    "ofac-sdn": "Specially Designated Nationals of the Office of Foreign Assets Control (US), with their aliases; "
    "ships and aircraft left out. Imported with arbiter list import.",
    "un": "The consolidated list of the United Nations Security Council. Imported with arbiter list import.",
    "eu": "The consolidated list of persons under financial sanctions of the European Union. "
    "Imported with arbiter list import.",
}


@click.group("list")
def lists() -> None:
    """Import many entries into a list, and ask what a list has on a value."""


@lists.command("import", short_help="Many entries at once, with what changes shown first.")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--as", "form", required=True, type=click.Choice([*FORMS, "text", "csv"]), help="What the files are.")
@click.option("--into", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The list's YAML file.")
@click.option("--apply", "write", is_flag=True, help="Write it; without this nothing is written.")
@click.option("--add", is_flag=True, help="Keep what the list's text file has, and add to it.")
@click.option("--weak", is_flag=True, help="Take aliases too that the authority calls weak.")
@click.option("--column", default="value", show_default=True, help="Of a CSV file: the column with the values.")
@click.option("--published", metavar="DAY", help="When the files were published, where they do not say it themselves.")
@click.option(
    "--may-remove", type=click.IntRange(0, 100), default=MAY_REMOVE, show_default=True, metavar="PERCENT",
    help="Most of the list's entries that may go.",
)  # fmt: skip
@click.option("--older", is_flag=True, help="Take files that were published before those that the list has.")
@click.option("--show", type=click.IntRange(0), default=SHOWN, show_default=True, help="Changes of each kind to show.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@language_option
def import_(
    files: tuple[Path, ...],
    form: str,
    into: Path,
    write: bool,
    add: bool,
    weak: bool,
    column: str,
    published: str | None,
    may_remove: int,
    older: bool,
    show: int,
    as_json: bool,
) -> None:
    """Make FILE the text file of a list: show what would be added, removed and changed, and with --apply write it.

    \b
    ofac-sdn  SDN.CSV and ALT.CSV, or SDN.XML, of the US Treasury's OFAC
    un        consolidated.xml of the UN Security Council
    eu        the full list of EU financial sanctions, XML 1.1
    text      one entry a line: VALUE [until DAY] [# reason]
    csv       a header, a column of values, and "expires" and "reason" where there are some

    A sanctions list is made where --into does not exist yet, with "match: name"; the other two need the list's YAML
    file. Files may be packed with gzip. The YAML file notes the form, the day and the SHA-256 of each file. Every line
    that does not fit is told at once, and then nothing is written; nor is an import that would remove too much, or
    that is older than what is there.

    Exit code 0: shown, and written with --apply; 1: refused, and nothing was written.

    \b
    Examples:
      arbiter list import sdn.csv alt.csv --as ofac-sdn --published 2026-11-20 --into rules/lists/ofac.yaml
      arbiter list import consolidated.xml --as un --into rules/lists/un.yaml --apply
      arbiter list import bins.csv --as csv --column bin --into rules/lists/bad-bins.yaml --add --json
    """
    day = _day(published)
    try:
        with uncollected():
            plan = _plan([download(path) for path in files], form, into, add=add, weak=weak, column=column, day=day)
    except PackError as error:
        _refused(error.problems, as_json)
        raise SystemExit(1) from None
    reasons = list(_suspicious(plan, may_remove, older))
    written = write and not reasons
    if written:
        plan.write()
    if as_json:
        click.echo(json.dumps(_as_data(plan, reasons, written, show), ensure_ascii=False, indent=2))
    else:
        for line in _preview(plan, show):
            click.echo(line)
        for reason in reasons:
            say(f"refused: {reason}", err=True)
        if not reasons:
            say(f"{into} written" if written else "nothing is written yet: say --apply", err=True)
    raise SystemExit(int(bool(reasons)))


def _plan(files: Sequence[Download], form: str, into: Path, *, add: bool, weak: bool, column: str, day: str) -> Plan:
    document, found, problems = _document(into, form), Publication(), list[Problem]()
    if form in FORMS:
        found = read_published(form, files, weak=weak)
        for notice in found.notices:
            click.echo(f"{label('notice')}{said(notice)}", err=True)
    rows = _rows(files, form, document, found, column, problems)
    source = source_of(form, day or found.published, files)
    return planned(document, rows, problems, source=source, left_out=found.left_out, into=into, add=add)


def _rows(
    files: Sequence[Download], form: str, document: Document, found: Publication, column: str, problems: list[Problem]
) -> Iterator[Row]:
    if form in FORMS:
        yield from rows_published(as_written(document).shape, found)
    for file in files:
        if form == "text":
            yield from rows_of_text(file, problems)
        elif form == "csv":
            yield from rows_of_csv(file, column, problems)


def _document(into: Path, form: str) -> Document:
    if into.suffix not in (".yaml", ".yml"):
        raise RequestRefused(f"{into}: --into names the YAML file of a list, such as rules/lists/{into.stem}.yaml")
    if into.exists():
        return read(into, root=into.parent, name=into.as_posix())
    if form not in FORMS:
        raise RequestRefused(f"{into}: there is no such list; write its YAML file first (docs/lists.md)")
    return parse(new_list(into.stem, _ABOUT[form]), into.as_posix())


def _day(given: str | None) -> str:
    try:
        if given:
            start_of(given)
    except ValueError as error:
        raise click.UsageError(f"--published {given}: {error}") from None
    return given or ""


def _suspicious(plan: Plan, may_remove: int, older: bool) -> Iterator[str]:
    """What speaks against writing it, with what to say where it is meant."""
    change = plan.difference
    if not change.after:
        yield "no entry would be left"
    elif change.removed_share * 100 > may_remove:
        gone = f"{len(change.removed):,} of {change.before:,} entries would go ({change.removed_share:.0%})"
        yield f"{gone}, at most {may_remove} % may; is the file whole? if it is meant, say --may-remove"
    if plan.older and not older:
        had = plan.was.published if plan.was else ""
        yield f"published {plan.source.published}, before what the list has ({had}); if it is meant, say --older"


def _preview(plan: Plan, show: int) -> Iterator[str]:
    change, source = plan.difference, plan.source
    yield f"{plan.name}: {source.form}" + (said(f", published {source.published}") if source.published else "")
    for each in source.files:
        yield f"  {each.name}  sha256 {each.sha256}"
    if plan.left_out:
        yield said(f"  left out: {left_out_in_words(plan.left_out)}")
    yield said(f"{change.before:,} entries before, {change.after:,} afterwards, {change.same:,} stay as they are")
    groups = (
        ("+", "added", [_line(row) for row in change.added]),
        ("-", "removed", [_line(row) for row in change.removed]),
        ("~", "changed", [f"{_line(old)}  →  {_line(new)}" for old, new in change.changed]),
    )
    for sign, word, lines in groups:
        yield said(f"{len(lines):,} {word}")
        yield from (f"  {sign} {line}" for line in lines[:show])
        if len(lines) > show > 0:
            yield said(f"    … {len(lines) - show:,} more")


def _line(row: Row) -> str:
    until = f" until {written_end(row.expires)}" if row.expires != NEVER else ""
    return f"{row.value}{until}" + (f"  # {row.reason}" if row.reason else "")


def _as_data(plan: Plan, refused: Sequence[str], written: bool, show: int) -> dict[str, Any]:
    change = plan.difference
    return {
        "ok": not refused,
        "list": plan.name,
        "form": str(plan.source.form),
        "published": str(plan.source.published) or None,
        "files": [{"name": str(each.name), "sha256": str(each.sha256)} for each in plan.source.files],
        "hash": {"before": plan.hashes[0], "after": plan.hashes[1]},
        "before": change.before,
        "after": change.after,
        "same": change.same,
        "added": len(change.added),
        "removed": len(change.removed),
        "changed": len(change.changed),
        "left_out": dict(plan.left_out),
        "sample": {
            "added": [_as_entry(row) for row in change.added[:show]],
            "removed": [_as_entry(row) for row in change.removed[:show]],
            "changed": [{"from": _as_entry(old), "to": _as_entry(new)} for old, new in change.changed[:show]],
        },
        "refused": list(refused),
        "written": written,
        "problems": [],
    }


def _as_entry(row: Row) -> dict[str, str | None]:
    expires = written_end(row.expires) if row.expires != NEVER else None
    return {"value": row.value, "expires": expires, "reason": row.reason or None}


def _refused(problems: Sequence[Problem], as_json: bool) -> None:
    if as_json:
        told = [
            {"file": one.file, "line": one.line, "column": one.column, "message": one.what, "hint": one.hint}
            for one in problems
        ]
        click.echo(json.dumps({"ok": False, "written": False, "problems": told}, ensure_ascii=False, indent=2))
        return
    for problem in problems[:SHOWN_PROBLEMS]:
        click.echo(rendered(problem) + "\n", err=True)
    more = f", the first {SHOWN_PROBLEMS} of them shown; --json has all" if len(problems) > SHOWN_PROBLEMS else ""
    say(f"arbiter: {counted(len(problems), 'problem')}{more}; nothing was written", err=True)


# -- ask -------------------------------------------------------------------------------------------------------


@lists.command("ask", short_help="What a list has on a value.")
@click.argument("name", metavar="LIST")
@click.argument("value")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@pack_options
@language_option
def ask(name: str, value: str, as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """Whether VALUE is on LIST now. Of a list of names: every entry that it is like, with the likeness and the reason.
    Of phrases with disguises: where they stand in VALUE, a text.

    It asks the files; entries that came through the API are in the database, under GET /v1/lists/LIST/entries.

    \b
    Examples:
      arbiter list ask sanctioned-names "Exampel Sanctioned Trading Ltd"
      arbiter list ask tor-exits 192.0.2.66 --json
      arbiter list ask ad-absolutes "全网 最·佳口感"
    """
    document = _find(settings(rules, policies).rules, name)
    named = read_list(document)
    assert named.table is not None, "a list read strictly has a table"
    now = wall_clock()
    try:
        form = named.form(value)
    except ValueError:
        raise RequestRefused(f"this is no {named.entity}") from None
    on = named.table.holds(now, form)
    found: dict[str, Any] = {"list": name, "match": named.match, "on": on, "hash": named.hash}
    if isinstance(named.table, Names):
        found |= {"threshold": named.threshold, "entries": list(_alike(document, named.table, now, form))}
    if isinstance(named.table, Disguised):
        hits = named.table.hits(now, reading_of(value))
        found["hits"] = [{**asdict(hit), "words": value[hit.start : hit.end]} for hit in hits]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    say({True: "on the list", False: "not on the list", None: "nothing that could be on it"}[on])
    for each in found.get("entries", ()):
        click.echo(f"  {each['likeness']:.3f}  {each['value']}" + (f"  # {each['reason']}" if each["reason"] else ""))
    for each in found.get("hits", ()):
        click.echo(f"  {each['start']}:{each['end']}  {each['phrase']}  {each['words']}")


def _find(rules: Path, name: str) -> Document:
    found = {str(each.data["list"]): each for each in read_all(rules) if "list" in each.data}
    if name not in found:
        hint = did_you_mean(name, found) or f"there are {', '.join(found) or 'none'}"
        raise RequestRefused(f"there is no list '{name}' in {rules}; {hint}")
    return found[name]


def _alike(document: Document, table: Names, at: int, form: str) -> Iterator[dict[str, Any]]:
    """The entries that a name is like, the nearest first, as they are written in the files."""
    written = as_written(document)
    rows = {written.shape.entry(row.value): row for row in (*written.inside, *written.beside)}
    for entry, likeness in sorted(table.matches(at, form), key=lambda found: (-found[1], found[0])):
        yield {"likeness": round(likeness, 3), **_as_entry(rows[entry])}
