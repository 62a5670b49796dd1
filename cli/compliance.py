"""`compliance`: where a shop stands with its checklists and the law, and a report of it that prints well."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import click
import orjson

from cli.group import counted
from cli.language import label, language, language_option, padded, said, say, term
from cli.opened import moment, with_ledger, with_vault
from cli.settings import TENANT, actor, ledger_exists, pack_options, settings
from engine.assembly import wall_clock
from engine.compliance import (
    GAPS,
    GAPS_FIRST,
    RESULTS,
    WHAT,
    Coverage,
    Standing,
    acts_in,
    after,
    count_verdicts,
    coverage,
    coverage_data,
    item_of,
    rules_data,
    standing_data,
    standings,
)
from engine.errors import RequestRefused
from engine.journal import Journal, sealed_note
from engine.law import Law
from engine.ledger import Ledger
from engine.packs.moments import day_of, start_of
from engine.rulebook import Rulebook, load
from engine.vault import Vault

LARGEST = 100 << 20
"""Bytes of a file of evidence."""

_PAGE = Template((Path(__file__).parent / "compliance.html").read_text("utf-8"))


@click.group()
def compliance() -> None:
    """Where you stand with the checklists in policies/compliance, and with the law."""


def _options(command: Any) -> Any:
    tenant = click.option("--tenant", default=TENANT, show_default=True, help="Whose records.")
    since = click.option("--from", "since", metavar="DAY", help="Count verdicts from this day on (Asia/Shanghai).")
    return tenant(since(pack_options(language_option(command))))


@compliance.command("status")
@click.option("--json", "as_json", is_flag=True, help="Items, rules and articles as JSON on standard output.")
@_options
def status(as_json: bool, tenant: str, since: str | None, rules: Path | None, policies: Path | None) -> None:
    """Every item of every checklist, gaps first; which articles nobody looks after.

    What an item asks of the rulebook is asked now; what a person did is read from the ledger in the settings. Without a
    ledger nothing was recorded yet, and no verdicts are counted. Exit code 1 while an item failed, is overdue or open.

    \b
    Examples:
      arbiter compliance status
      arbiter compliance status --json | jq '.articles[] | select(.gap)'
    """
    state = _state(tenant, since, rules, policies)
    if as_json:
        click.echo(json.dumps(_data(state), ensure_ascii=False, indent=2))
    else:
        for line in _lines(state):
            click.echo(line)
    raise SystemExit(int(any(each.status in GAPS for each in state.items)))


@compliance.command("report")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The HTML file to write.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON on standard output.")
@_options
def report(out: Path, as_json: bool, tenant: str, since: str | None, rules: Path | None, policies: Path | None) -> None:
    """One HTML page that needs nothing beside it: gaps first, then one printed page a law, with each article's rules,
    their tests, the items of checklists, and how often decisions came out as each verdict.

    \b
    Examples:
      arbiter compliance report --out compliance.html
      arbiter compliance report --from 2026-01-01 --lang zh --out 合规报告.html
    """
    state = _state(tenant, since, rules, policies)
    out.write_text(page(state), "utf-8")
    if as_json:
        click.echo(json.dumps(_data(state), ensure_ascii=False, indent=2))
    say(f"{out}: {counted(len(state.items), 'item')}, {counted(len(state.articles), 'article')}", err=True)


@compliance.command("record")
@click.argument("item")
@click.option("--result", required=True, type=click.Choice(RESULTS), help="How it came out.")
@click.option("--evidence", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A file whose SHA-256 is recorded; the file itself stays where it is.")  # fmt: skip
@click.option("--note", required=True, help="What was done and found, in a line; it is sealed.")
@click.option("--tenant", default=TENANT, show_default=True, help="Whose record.")
@pack_options
@language_option
def record(
    item: str,
    result: Any,
    evidence: tuple[Path, ...],
    note: str,
    tenant: str,
    rules: Path | None,
    policies: Path | None,
) -> None:
    """Record in the ledger how an item came out, under the name you are logged in with.

    \b
    Examples:
      arbiter compliance record breach-readiness.drill --result met --evidence drill-2026.pdf --note "drill of 3 June"
    """
    given = settings(rules, policies)
    item_of(load(given.rules, given.policies), item)
    if not note.strip():
        raise click.UsageError("--note is empty: say what was done and found, in a line")
    if result == "met" and not evidence:
        raise RequestRefused("what is met has evidence: name a file with --evidence")
    hashes = [_hash(path) for path in evidence]

    async def work(ledger: Ledger, vault: Vault) -> str:
        before = acts_in(await ledger.changes(tenant, WHAT)).get(item)
        was = after(before.result, before.evidence) if before else None
        await vault.ready(tenant)
        sealed = partial(sealed_note, vault, tenant, subject=None, note=note)
        change = Journal(ledger, wall_clock).change
        return await change(tenant, WHAT, item, was, after(result, hashes), actor(), sealed)

    id = with_vault(work)
    say(f"recorded as {id}")
    for path, digest in zip(evidence, hashes, strict=True):
        click.echo(f"  sha256 {digest}  {path}")


def _hash(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise RequestRefused(f"{path} is larger than {LARGEST >> 20} MiB: hash it yourself and record the hash's file")
    return sha256(path.read_bytes()).hexdigest()


# What there is


@dataclass(frozen=True, slots=True)
class State:
    """Items and articles at a time (UTC µs), and from when on verdicts are counted; `counted` is whether a ledger was
    there."""

    book: Rulebook
    items: Sequence[Standing]
    articles: Sequence[Coverage]
    now: int
    since: int
    counted: bool


def _state(tenant: str, since: str | None, rules: Path | None, policies: Path | None) -> State:
    given, now = settings(rules, policies), wall_clock()
    book, start = load(given.rules, given.policies), moment(since, start_of, "--from") or 0
    there = ledger_exists(given)
    read = with_ledger(lambda ledger: _read(ledger, tenant, start)) if there else _Read([], {}, None)
    items, verdicts = standings(book, acts_in(read.leaves), now, read.begun), read.verdicts
    return State(book, items, coverage(book, items, verdicts), now, start, there)


class _Read(NamedTuple):
    """What a ledger says: leaves of acts, verdicts by rule, and when the first event came (UTC µs)."""

    leaves: list[bytes]
    verdicts: dict[str, dict[str, int]]
    begun: int | None


async def _read(ledger: Ledger, tenant: str, since: int) -> _Read:
    counts: dict[str, dict[str, int]] = {}
    async for facts in ledger.facts_of(tenant, since):
        decisions = (orjson.loads(fact.leaf) for fact in facts if fact.kind == "decision" and fact.received_at >= since)
        count_verdicts(decisions, counts)
    return _Read(await ledger.changes(tenant, WHAT), counts, await _begun(ledger, tenant))


async def _begun(ledger: Ledger, tenant: str) -> int | None:
    async for facts in ledger.facts_of(tenant, 0, size=1):
        return facts[0].received_at
    return None


def _data(state: State) -> dict[str, Any]:
    today = day_of(state.now)
    return {
        "on": today.isoformat(),
        "rules": rules_data(state.book),
        "articles": [coverage_data(each, today) for each in state.articles],
        "items": [standing_data(each) for each in state.items],
    }


# Words


def _state_word(status: str) -> str:
    """A status in the reader's language; of a checklist, for a proposal may be open, too."""
    return term(status, "checklist") if status == "open" else term(status)


def _head_word(name: str) -> str:
    return term(name, "checklist") if name == "item" else term(name)


# Lines


def _lines(state: State) -> Iterator[str]:
    if not state.counted:
        yield said("there is no ledger: nothing is recorded of any item, and no verdicts are counted")
        yield ""
    for name in GAPS_FIRST:
        for each in (each for each in state.items if each.status == name):
            yield f"{padded(_state_word(name), 16)}{each.id}: {each.item.asks[language()]}"
            yield from (f"{'':16}{line}" for line in _about(each))
    yield ""
    gaps = [each for each in state.articles if each.gap]
    if gaps:
        yield said("articles that no rule and no item looks after:")
        yield from (f"  {each.article.id}  {each.article.name[language()]}" for each in gaps)
        yield ""
    yield _summary(state)


def _about(each: Standing) -> Iterator[str]:
    if each.item.law:
        yield f"{label('law')}{', '.join(each.item.law)}"
    yield from map(said, each.why)
    if each.item.role is not None and each.status in GAPS:
        yield f"{label('role')}{each.item.role}"
    if each.item.evidence is not None and each.status in GAPS:
        yield f"{label('evidence')}{each.item.evidence[language()]}"
    if each.act is not None:
        yield said(f"last recorded on {day_of(each.act.at)} by {each.act.by}")
    if each.due is not None:
        yield said(f"due on {each.due}")


def _summary(state: State) -> str:
    kinds = {name: sum(each.status == name for each in state.items) for name in GAPS_FIRST}
    line = said(f"items: {len(state.items):,}")
    line += "".join(f", {_state_word(name)} {count}" for name, count in kinds.items() if count)
    cited = sum(bool(each.rules) for each in state.articles)
    rules, all_ = sum(bool(rule.finding.cites) for rule in state.book.rules), len(state.articles)
    return f"{line}; " + said(f"rules that cite law: {rules:,}; articles with rules: {cited:,} of {all_:,}")


# The report


def page(state: State) -> str:
    """The report as one HTML page in the reader's language."""
    laws = {each.article.law.id: each.article.law for each in state.articles}
    sections = [_gaps(state), *(_law(law, state) for law in sorted(laws.values(), key=lambda each: each.id))]
    sections += [_checklist(state, name) for name in dict.fromkeys(each.checklist.id for each in state.items)]
    about = said(f"As of {day_of(state.now)}, rulebook {state.book.hash[:12]}")
    if state.counted and state.since:
        about += "; " + said(f"verdicts counted from {day_of(state.since)}")
    elif not state.counted:
        about += "; " + said("without a ledger: nothing is recorded, no verdicts are counted")
    return _PAGE.substitute(
        lang=language(), title=escape(term("Compliance report")), about=escape(about), body="\n".join(sections)
    )


def _gaps(state: State) -> str:
    items = [each for each in state.items if each.status in GAPS]
    articles = [each for each in state.articles if each.gap]
    rows = [_item_row(each) for each in items]
    return _section(
        term("Gaps"),
        f"<p>{escape(_summary(state))}</p>",
        _table(_ITEM_HEAD, rows),
        f"<h3>{escape(said('articles that no rule and no item looks after:'))}</h3>" if articles else "",
        _table(_ARTICLE_HEAD, [_article_row(each, state) for each in articles]),
    )


def _law(law: Law, state: State) -> str:
    mine = [each for each in state.articles if each.article.law.id == law.id]
    note = "" if language() == "zh" else law.name["zh"]
    return _section(
        f"{law.name[language()]} {note}".strip(),
        f"<p>{escape(law.about)}</p>",
        _table(_ARTICLE_HEAD, [_article_row(each, state) for each in mine]),
    )


def _checklist(state: State, name: str) -> str:
    mine = [each for each in state.items if each.checklist.id == name]
    found = mine[0].checklist
    return _section(
        found.name[language()], f"<p>{escape(found.about)}</p>", _table(_ITEM_HEAD, [_item_row(each) for each in mine])
    )


_ITEM_HEAD = ("status", "item", "asked", "law", "done")
_ARTICLE_HEAD = ("article", "duty", "rules", "tests", "items", "verdicts")


def _item_row(each: Standing) -> tuple[str, ...]:
    done = "<br>".join(escape(line) for line in list(_about(each))[bool(each.item.law) :])
    return (
        f'<b class="{each.status}">{escape(_state_word(each.status))}</b>',
        escape(each.id),
        escape(each.item.asks[language()]),
        escape(", ".join(each.item.law)),
        done,
    )


def _article_row(each: Coverage, state: State) -> tuple[str, ...]:
    version = each.article.on(day_of(state.now))
    number = said(f"Art. {version.number}") if version else said("not in force")
    mark = ""
    if version is not None and not version.verified:
        mark = f"<br><i>{escape(said('not verified'))}: {escape(version.open or '')}</i>"
    duty = escape(version.duty[language()]) if version else ""
    return (
        f"<b>{escape(each.article.id)}</b> {escape(number)}<br>{escape(each.article.name[language()])}",
        duty + mark,
        "<br>".join(escape(rule.id) for rule in each.rules),
        str(each.tests or ""),
        "<br>".join(escape(f"{item.id}: {_state_word(item.status)}") for item in each.items),
        "<br>".join(escape(f"{verdict} {count:,}") for verdict, count in sorted(each.verdicts.items())),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{escape(_head_word(name))}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table>"


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n" + "\n".join(part for part in parts if part) + "\n</section>"
