"""`merchants`: where a merchant stands, why, and how it came there; reviews that are due."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from cli.group import counted
from cli.language import language, language_option, said, say, term
from cli.remote import Remote, others_line, server_options
from cli.tables import stamp

_id = click.argument("merchant", metavar="ID")
_json = click.option("--json", "as_json", is_flag=True, help="The answer of the server as JSON.")


@click.group()
def merchants() -> None:
    """Merchants: in which tier each stands, and why.

    A running server is asked, with your API key. The key needs the scope rules, or audit to look.

    \b
    Examples:
      arbiter merchants show m-301 --key-file li.key
      arbiter merchants review --all --key-file li.key
    """


@merchants.command()
@_id
@click.option("--own", is_flag=True, help="What the merchant itself may know: no points and no limits.")
@click.option("--assess", is_flag=True, help="Assess it first; that is recorded.")
@_json
@server_options
@language_option
def show(merchant: str, own: bool, assess: bool, as_json: bool, server: str, key_file: Path | None) -> None:
    """Where a merchant stands, since when, why, what would help, and when it is looked at again.

    \b
    Examples:
      arbiter merchants show m-301 --key-file li.key
      arbiter merchants show m-301 --own --lang zh --key-file li.key
      arbiter merchants show m-301 --assess --key-file li.key
    """
    remote, place = Remote(server, key_file), f"/v1/merchants/{quote(merchant, safe='')}"
    answer = remote.post(f"{place}/assessment", {}) if assess else None
    if own:
        answer = remote.get(f"{place}/explanation")
    elif answer is None:
        answer = remote.get(place)
    click.echo(json.dumps(answer, ensure_ascii=False, indent=2) if as_json else "\n".join(_shown(answer)))


@merchants.command()
@_id
@_json
@server_options
@language_option
def history(merchant: str, as_json: bool, server: str, key_file: Path | None) -> None:
    """How a merchant came into its tier, the newest step first.

    \b
    Examples:
      arbiter merchants history m-301 --key-file li.key
      arbiter merchants history m-301 --json --key-file li.key
    """
    answer = Remote(server, key_file).get(f"/v1/merchants/{quote(merchant, safe='')}")
    steps = answer.get("history", [])
    if as_json:
        click.echo(json.dumps(steps, ensure_ascii=False, indent=2))
        return
    for step in steps:
        click.echo("\n".join(_step(step)))
    say(counted(len(steps), "step"), err=True)


@merchants.command()
@click.option("--all", "everybody", is_flag=True, help="Also merchants that were never assessed.")
@_json
@server_options
@language_option
def review(everybody: bool, as_json: bool, server: str, key_file: Path | None) -> None:
    """Assess all merchants and others whose review is due. The server does so by itself; this does it at once.

    \b
    Examples:
      arbiter merchants review --key-file li.key
      arbiter merchants review --all --key-file li.key
    """
    remote = Remote(server, key_file)
    done = {"assessed": 0, "moved": 0, "new": 0}
    place = "/v1/merchants/reviews" + ("?everybody=true" if everybody else "")
    while True:
        answer = remote.post(place, {})
        done = {name: done[name] + answer[name] for name in done}
        if not answer["left"] or not answer["assessed"]:
            break
    if as_json:
        click.echo(json.dumps({**done, "left": answer["left"]}))
        return
    say(f"{counted(done['assessed'], 'assessment')}, {done['moved']:,} of them into another tier")


def _shown(answer: Mapping[str, Any]) -> Iterator[str]:
    """A standing, line by line."""
    ladder = " > ".join(f"[{tier}]" if tier == answer["tier"] else tier for tier in answer["tiers"])
    yield f"{answer['id']}: {ladder}"
    yield said(f"  since {stamp(answer['since'])}; looked at again on {stamp(answer['next_review'])}")
    if answer["held"]:
        until = answer["held"]["until"]
        yield (
            said(f"  a person has set this tier until {stamp(until)}")
            if until
            else said("  a person has set this tier for good")
        )
    elif answer["better_from"] is not None:
        yield said(f"  a better tier can come from {stamp(answer['better_from'])} on")
    if "points" in answer:
        yield said(f"  {counted(answer['points'], 'point')}")
        for limit in answer["limits"]:
            if limit["enter"]:
                yield said(f"    {limit['tier']}: entered at {limit['enter']}, left below {limit['leave']}")
    for factor in answer["factors"]:
        yield f"  - {factor['because'][language()]}" + _weight(factor)
        yield f"    {factor['improve'][language()]}"
    if not answer["factors"]:
        yield said("  nothing counts against it")


def _weight(factor: Mapping[str, Any]) -> str:
    if "counted" not in factor:
        return f" ({term(factor['weight'])})"
    return f" ({factor['id']}: {factor['counted']})"


def _step(step: Mapping[str, Any]) -> Iterator[str]:
    """One step of a history."""
    moved = f"{step['before'] or '-'} > {step['after']}"
    yield f"{stamp(step['at'])}  {moved}  {term(step['why'])}  {others_line(step['by'])}"
    if step["reason"]:
        yield f"  {others_line(step['reason'])}"
    for factor in step["factors"]:
        yield f"  - {factor['because'][language()]} ({factor['id']}: {factor['counted']})"
