"""`counterfactual`: the smallest change that would have given a milder verdict."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import click
import orjson

from cli.language import language, language_option, said
from cli.opened import decision_of, with_ledger
from engine.archive import Library
from engine.assembly import wall_clock
from engine.counterfactual import MOST, SECONDS, Change, Found, counterfactual
from engine.errors import Conflict
from engine.ledger import Ledger
from engine.rulebook import Rulebook
from engine.statement import AUDIENCES, Audience, found_against
from engine.wording import PolicyWording


@click.command("counterfactual")
@click.argument("id")
@click.option("--to", metavar="VERDICT", help="This verdict, or a milder one; the next milder when absent.")
@click.option("--for", "audience", type=click.Choice(AUDIENCES), default="officer", show_default=True,
              help="person: in words without values, and only fields that the person can change.")  # fmt: skip
@click.option("--all", "every", is_flag=True, help="Also public fields that no notice says the person can change.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=SECONDS, show_default=True, help="At most so long.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@language_option
def command(id: str, to: str | None, audience: Audience, every: bool, seconds: float, as_json: bool) -> None:
    """The smallest change of a decision's values that would have given a milder verdict: as few fields or window values
    as there are, then the least relative change. The engine itself judges each.

    Which fields a person can change is said by the notices of the policy ('changes'). A text may be without the phrases
    that were found in it; other personal values and lists stand as they were. For the person it is told in words alone,
    and not where a reason smells of fraud.

    \b
    Examples:
      arbiter counterfactual ev-2026-000184
      arbiter counterfactual ev-2026-000184 --to approve --all --json
      arbiter counterfactual ev-2026-000184 --for person --lang zh
    """
    if audience == "person" and every:
        raise click.UsageError("--all shows what no person can change: leave it out with --for person")

    async def work(ledger: Ledger) -> tuple[dict[str, Any], Rulebook]:
        stored = await decision_of(ledger, id)
        record = orjson.loads(stored.entry.leaf)
        return record, await Library(ledger.database, wall_clock).find(record["pins"]["rulebook"])

    record, rulebook = with_ledger(work)
    words = _words(record, rulebook)
    allowed: Collection[str] | None = None if every else words.changes
    found = counterfactual(record, rulebook, to=to, fields=allowed, windows=audience == "officer", seconds=seconds)
    if audience == "person":
        for line in _bands(found, record, rulebook, words):
            click.echo(line)
    elif as_json:
        click.echo(json.dumps(_shown(found), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_lines(found)))
    raise SystemExit(int(not found.changes))


def _words(record: Mapping[str, Any], rulebook: Rulebook) -> PolicyWording:
    policy = rulebook.kinds[record["event"]["kind"]].policy
    assert policy is not None, "a decision had a policy"
    return rulebook.wording.get(policy.name, PolicyWording())


def _lines(found: Found) -> Iterator[str]:
    if found.after is None:
        yield said(f"no change of at most {MOST} values was found that makes '{found.before}' milder")
    else:
        yield said(f"'{found.before}' would have been '{found.after}' with:")
    for change in found.changes:
        yield f"  {change.name}: {_value(change.before)} → {_value(change.after)}"
    if not found.complete:
        yield said(f"not everything was tried: {found.tried} events judged; --seconds gives it more time")


def _shown(found: Found) -> dict[str, Any]:
    changes = [
        {"name": each.name, "field": each.path is not None, "before": _value(each.before), "after": _value(each.after)}
        for each in found.changes
    ]
    return {
        "before": found.before,
        "after": found.after,
        "changes": changes,
        "tried": found.tried,
        "complete": found.complete,
    }


def _value(value: Any) -> str:
    if type(value) is tuple:  # Phrases; an amount is a tuple, too.
        return ", ".join(value) or said("none of these words")
    return "unknown" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _bands(found: Found, record: Mapping[str, Any], rulebook: Rulebook, words: PolicyWording) -> Iterator[str]:
    """What the person may be told: no values, and nothing where a detail would teach how to get past a rule."""
    policy = rulebook.kinds[record["event"]["kind"]].policy
    assert policy is not None, "a decision had a policy"
    against = [words.reason(signal) for signal in found_against(record, policy)]
    if any(each is None or each.fraud for each in against):
        raise Conflict("a reason of this decision is told without detail: so is what would have changed it")
    if not found.changes:
        yield said("no change was found that makes this milder" if found.complete else "not everything was tried")
    for change in found.changes:
        yield _band(change, words)


def _band(change: Change, words: PolicyWording) -> str:
    told = words.changes[change.name]
    chosen = getattr(told, change.way) or told.other
    if chosen is None:
        raise Conflict(f"the notices have no words for '{change.way}' of '{change.name}'")
    return str(chosen.said(language()))
