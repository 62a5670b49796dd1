"""`processing`: records of processing personal information against the law, and Arbiter's own record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from cli.group import counted
from cli.language import language, language_option, said, say
from cli.packs import rulebook
from cli.settings import pack_options
from engine.assembly import wall_clock
from engine.law import LawTable
from engine.packs.moments import day_of
from engine.processing import Finding, World, findings, own, written


@click.group()
def processing() -> None:
    """Records of processing personal information: checked against the law; Arbiter's own, out of its schema.

    \b
    Examples:
      arbiter processing check
      arbiter processing own
    """


@processing.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pack_options
@language_option
def check(as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """What the records in policies/processing do not show of what the law asks, each with its articles and its place;
    exit code 1 where there is something. What every check asks: docs/processing.md.

    \b
    Examples:
      arbiter processing check
      arbiter processing check --json
    """
    book, now = rulebook(rules, policies), wall_clock()
    found = findings(book.processing, World(book.schema, book.retention, now))
    today = day_of(now)
    if as_json:
        click.echo(json.dumps([as_data(each, book.law, today) for each in found], ensure_ascii=False, indent=2))
    else:
        for line in printed(found, book.law, today):
            click.echo(line)
        records = sum(len(each.pack.records) for each in book.processing)
        say(f"{counted(len(found), 'finding')} in {counted(records, 'record')} of processing", err=True)
    raise SystemExit(int(bool(found)))


@processing.command("own", short_help="Arbiter's own record, out of its schema.")
@pack_options
@language_option
def own_record(rules: Path | None, policies: Path | None) -> None:
    """The generated part of Arbiter's own records: for each class of the retention file the kinds of event, whose data,
    which personal fields by the marks of the schema, own fields included, and how long they are kept. The rest says
    what only you know.

    \b
    Examples:
      arbiter processing own
    """
    book = rulebook(rules, policies)
    click.echo(written(own(book.schema, book.retention)), nl=False)


def printed(found: Sequence[Finding], law: LawTable, today: date) -> list[str]:
    """The findings, each at its place with its articles by name."""
    lines = []
    for each in found:
        problem = each.problem(language())
        lines.append(f"{problem.file}:{problem.line}:{problem.column}: {problem.what}")
        lines.append(f"    {_articles(each.check.law, law, today)}")
    return lines


def _articles(ids: Sequence[str], law: LawTable, today: date) -> str:
    shown = []
    for id in ids:
        article = law.articles.get(id)
        named = "" if article is None else f" {article.name[language()]}"
        version = law.on(id, today)
        open_ = f" ({said('not verified')})" if version is not None and not version.verified else ""
        shown.append(f"{id}{named}{open_}")
    return "; ".join(shown)


def as_data(found: Finding, law: LawTable, today: date) -> dict[str, Any]:
    """A finding for programs, with both languages."""
    problem = found.problem()
    versions = {id: law.on(id, today) for id in found.check.law}
    return {
        "check": found.check.id,
        "record": found.record,
        "of": found.of,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": {language: found.message(language) for language in ("en", "zh")},
        "law": [{"id": id, "verified": version is not None and version.verified} for id, version in versions.items()],
    }
