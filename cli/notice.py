"""`notice` and `statements`: what people are told of verdicts, computed from the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from cli.group import counted
from cli.language import language, language_option, say
from cli.opened import decision_of, moment, with_vault
from cli.settings import TENANT
from engine.archive import Library
from engine.assembly import wall_clock
from engine.callers import Caller
from engine.cases import Case, last_against, policy_of
from engine.errors import Conflict
from engine.ledger import Filter, Ledger
from engine.packs.moments import end_of, start_of
from engine.records import Records
from engine.statement import AUDIENCES, Audience, public_statement
from engine.vault import Vault


@click.command()
@click.argument("id")
@click.option(
    "--for", "audience", type=click.Choice(AUDIENCES), default="person", show_default=True, help="Whom it tells."
)
@click.option("--of", metavar="ID", help="An earlier record of the case, of which it tells.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@language_option
def notice(id: str, audience: Audience, of: str | None, as_json: bool) -> None:
    """What a person is told of a decision, by its id or that of its event: what, why, on what ground, whether a program
    alone decided, what can be done until when. --for officer shows what is behind it.

    It is computed from the record and the rulebook of then, so it reads the same whenever it is asked for. Answers to
    appeals in free text stay sealed; the API shows them to keys with the scope reveal.

    \b
    Examples:
      arbiter notice ev-2026-000184 --lang zh
      arbiter notice ev-2026-000184 --for officer --json
    """

    async def work(ledger: Ledger, vault: Vault) -> dict[str, Any]:
        stored = await decision_of(ledger, id)
        records = Records(ledger, vault, Library(ledger.database, wall_clock).find)
        reader = Caller("notice", "service", stored.entry.tenant, frozenset({"audit"}))
        return await records.statement(stored.entry.id, reader, audience, language(), of)

    found = with_vault(work)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    click.echo(found["text"] if audience == "person" else "\n".join(_behind(found)))


def _behind(found: Mapping[str, Any]) -> Iterator[str]:
    """What an officer sees, line by line."""
    verdict = found["verdict"]
    yield f"{verdict['decided']} (stands: {verdict['stands']}), score {found['score']}, tier {found['tier']}"
    reached = ", ".join(f"{name} from {score}" for name, score in found["thresholds"].items())
    yield f"thresholds  {reached}"
    for step in found["steps"]:
        yield f"step        {step['by']} {step['name']}: {step['before']} → {step['after']}"
    for reason in found["reasons"]:
        against = "against" if reason["signal"] in found["against"] else "beside"
        yield f"{against:<12}{reason['rule']}  {reason['signal']}, {reason['severity']}, {reason['points']} points"
        yield f"            {reason['message'][language()]}"
    for action in found["actions"]:
        yield f"measure     {action['do']}" + (f" for {action['for_s']} s" if action["for_s"] else "")
    for article in found["articles"]:
        state = "verified" if article["verified"] else f"not verified: {article['open']}"
        yield f"law         {article['id']} ({state})"
    yield f"own rules   {'yes' if found['own_rules'] else 'no'}"
    yield f"\nWhat the person is told ({found['person']['sha256']}):\n\n{found['person']['text']}"


@click.command()
@click.option("--from", "since", required=True, metavar="DAY", help="The first day (Asia/Shanghai).")
@click.option("--to", "until", required=True, metavar="DAY", help="The last day.")
@click.option("--kind", help="Only events of this kind, such as listing.")
@click.option("--tenant", default=TENANT, show_default=True, help="Whose decisions.")
@click.option("--out", type=click.Path(path_type=Path), help="A new file; standard output without it.")
def statements(since: str, until: str, kind: str | None, tenant: str, out: Path | None) -> None:
    """The statements of reasons of a period without personal data, a JSON object a line: measure, scope, duration,
    facts, means, ground, redress (DSA Art. 17). Of each decision against somebody, as it stands now; of one that was
    lifted, as it stood, and when it was lifted.

    \b
    Examples:
      arbiter statements --from 2026-11-01 --to 2026-11-30 --kind listing --out november.jsonl
    """
    wanted = Filter(
        kind="decision",
        event_kind=kind,
        since=moment(since, start_of, "--from"),
        until=moment(until, end_of, "--to"),
    )

    async def work(ledger: Ledger, vault: Vault) -> tuple[list[dict[str, Any]], int]:
        library = Library(ledger.database, wall_clock)
        records = Records(ledger, vault, library.find)
        found, without = [], 0
        async for stored in ledger.all(tenant, wanted):
            made = await _statement(await records.case(stored), library)
            found += [made] if made else []
            without += made is None
        return found, without

    made, without = with_vault(work)
    lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in made)
    if out is None:
        click.echo(lines, nl=False)
    else:
        with out.open("xb") as file:
            file.write(lines)
    say(counted(len(made), "statement"), err=True)
    if without:
        say(f"{counted(without, 'decision')} left out: their rulebook has no words for them", err=True)


async def _statement(case: Case, library: Library) -> dict[str, Any] | None:
    """The statement of a decision; an empty one where nothing is against anybody, None where there are no words."""
    rulebook = await library.find(case.first["pins"]["rulebook"])
    found = last_against(case, policy_of(rulebook.kinds[case.first["event"]["kind"]]))
    if found is None:
        return {}
    was, ended = found
    try:
        return public_statement(was, rulebook, ended)
    except Conflict:
        return None
