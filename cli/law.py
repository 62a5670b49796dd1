"""`law`: the articles that rules and policies cite, in their versions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from cli.group import counted
from cli.language import label, language, language_option, padded, said
from cli.settings import pack_options, settings
from engine.assembly import wall_clock
from engine.errors import RequestRefused, did_you_mean
from engine.law import Article, Version
from engine.packs.moments import day_of
from engine.rulebook import Rulebook, load


@click.command()
@click.argument("id", default="")
@click.option("--on", "day", type=click.DateTime(["%Y-%m-%d"]), help="The law of this day; today when absent.")
@click.option("--open", "unverified", is_flag=True, help="Only articles that nobody compared with the law's text.")
@click.option("--json", "as_json", is_flag=True, help="The articles as JSON on standard output.")
@pack_options
@language_option
def law(
    id: str, day: datetime | None, unverified: bool, as_json: bool, rules: Path | None, policies: Path | None
) -> None:
    """The articles of law that rules and policies cite. ID is an article, a law, or a country; all when absent.

    An article is shown in the version of the day, with the rules that rest on it. What nobody compared with the law's
    text is marked. Exit code 1 when there is no such article.

    \b
    Examples:
      arbiter law cn.aucl.9
      arbiter law cn.aucl.9 --on 2024-11-11
      arbiter law cn.ecl
      arbiter law --open
    """
    given = settings(rules, policies)
    book = load(given.rules, given.policies)
    on = day.replace(tzinfo=UTC).date() if day else day_of(wall_clock())
    found = [article for article in _named(book, id) if not unverified or _is_open(article.on(on))]
    if as_json:
        click.echo(json.dumps({"articles": [_data(book, each, on) for each in found]}, ensure_ascii=False, indent=2))
        return
    one = len(found) == 1 and found[0].id == id
    for line in _whole(book, found[0], on) if one else _table(book, found, on):
        click.echo(line)


def _named(book: Rulebook, id: str) -> list[Article]:
    """The articles whose id is this one, or begins with it. RequestRefused where there is none."""
    articles = book.law.articles
    if id in articles:
        return [articles[id]]
    found = [article for each, article in articles.items() if not id or each.startswith(f"{id}.")]
    if not found:
        hint = did_you_mean(id, articles) or "arbiter law shows them all"
        raise RequestRefused(f"there is no article '{id}' in the table of law; {hint}")
    return found


def _is_open(version: Version | None) -> bool:
    return version is not None and not version.verified


def _citing(book: Rulebook, article: Article) -> list[str]:
    return [rule.id for rule in book.rules if article.id in rule.finding.cites]


def _data(book: Rulebook, article: Article, on: date) -> dict[str, Any]:
    version = article.on(on)
    return {
        **book.law.shown(article.id),
        "on": {"day": on.isoformat(), "number": version.number if version else None},
        "rules": _citing(book, article),
    }


def _table(book: Rulebook, articles: Sequence[Article], on: date) -> Iterator[str]:
    """One line an article, by law."""
    wide = max((len(article.id) for article in articles), default=0)
    before = ""
    for article in articles:
        if article.law.id != before:
            yield ("\n" if before else "") + f"{article.law.name[language()]} ({article.law.country})"
            before = article.law.id
        version = article.on(on)
        number = said("not in force") if version is None else said(f"Art. {version.number}")
        rules = said(counted(len(_citing(book, article)), "rule"))
        mark = f"  {said('not verified')}" if _is_open(version) else ""
        yield f"  {padded(article.id, wide)}  {padded(number, 14)}{padded(rules, 10)}{article.name[language()]}{mark}"
    opened = sum(_is_open(article.on(on)) for article in articles)
    yield ""
    yield said(f"{counted(len(articles), 'article')}, {opened:,} not verified, as of {on}")


def _whole(book: Rulebook, article: Article, on: date) -> Iterator[str]:
    """Everything about one article."""
    yield f"{article.id}  {article.law.name[language()]}: {article.name[language()]}"
    now = article.on(on)
    if now is None:
        yield said(f"  not in force on {on}")
    for version in article.versions:
        yield from _version(version, version is now)
    rules = _citing(book, article)
    yield said(f"  {counted(len(rules), 'rule')} on it") + (f": {', '.join(rules)}" if rules else "")


def _version(version: Version, now: bool) -> Iterator[str]:
    term = f"{version.since} – {version.until or ''}".rstrip()
    yield f"{'*' if now else ' '} {said(f'Art. {version.number}')}  {term}"
    yield f"    {version.duty[language()]}"
    if version.penalty:
        yield f"    {label('penalty')}{version.penalty}"
    yield f"    {label('source')}{version.source}"
    if version.sha256:
        yield f"    sha256 {version.sha256}"
    if not version.verified:
        yield f"    {said('not verified')}: {version.open}"
