"""`mode`: what is switched on for a while when something is going on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cli.group import counted
from cli.language import label, language_option, said, say, term
from cli.remote import Remote, server_options
from cli.tables import stamp
from engine.errors import RequestRefused
from engine.policy import OFF

MODES = "/v1/modes"


@click.command()
@click.argument("name", required=False, metavar="[NAME|off]")
@click.argument("only", required=False, metavar="[NAME]")
@click.option("--for", "length", metavar="TIME", help="How long: 30m, 2h, at most 7d.")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.option("--json", "as_json", is_flag=True, help="The answer of the server as JSON.")
@server_options
@language_option
def mode(
    name: str | None, only: str | None, length: str | None, reason: str, as_json: bool, server: str,
    key_file: Path | None,
) -> None:  # fmt: skip
    """Switch a mode on for a while, end it, or show which are on.

    What a mode does is written in the policies; it can only be more careful than without it. It is recorded, it is in
    the record of each decision, and it ends by itself. The key needs the scope deploy; before its time a mode is ended
    by a person. `off` ends all that are on, or the one that is named.

    \b
    Examples:
      arbiter mode --key-file deploy.key
      arbiter mode guarded --for 2h --reason "cards are being tested" --key-file deploy.key
      arbiter mode off --reason "no attempt for an hour" --key-file li.key
      arbiter mode off guarded --reason "no attempt for an hour" --key-file li.key
    """
    remote = Remote(server, key_file)
    if name is None:
        answer = remote.get(MODES)
    elif name == OFF:
        if length is not None:
            raise RequestRefused("--for says how long a mode is on: it does not go with off")
        on = [each["name"] for each in remote.get(MODES)["on"]]
        answer = [remote.post(f"{MODES}/{each}/end", {"reason": reason}) for each in ([only] if only else on)]
    else:
        if only is not None:
            raise RequestRefused(f"one mode at a time; to end one, write: off {only}")
        if length is None:
            raise RequestRefused("say how long the mode is to be on: --for 2h")
        answer = remote.post(f"{MODES}/{name}", {"for": length, "reason": reason})
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    elif name is None:
        click.echo("\n".join(_shown(answer)))
    elif name == OFF:
        for each in answer:
            say(f"{each['name']} has ended")
        if not answer:
            say("no mode is on", err=True)
    else:
        say(f"{answer['name']} is on until {stamp(answer['until'])}")


def _shown(answer: Mapping[str, Any]) -> Iterator[str]:
    """Which modes are on and why, and what each does."""
    on = {each["name"]: each for each in answer["on"]}
    yield said(f"{counted(len(on), 'mode')} on")
    for each in answer["modes"]:
        name = each["name"]
        state = said(f"on until {stamp(on[name]['until'])}") if name in on else term(OFF)
        yield f"{name}: {state}"
        if name in on:
            yield f"  {label('why')}{on[name]['reason']} ({on[name]['by']})"
        for policy, does in each["does"].items():
            parts = [f"{key.removesuffix('_s')} {value}{'s' * key.endswith('_s')}" for key, value in does.items()]
            yield f"  {policy}: {', '.join(parts)}"
