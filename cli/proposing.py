"""`propose`, `proposal` and `rollback`: a rulebook on its way into force through two persons, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from cli import papers as ours
from cli.group import Commands
from cli.language import label, language_option, said, say, term
from cli.packs import examined
from cli.remote import Remote, others_line, others_text, server_options
from cli.settings import pack_options
from cli.tables import stamp
from engine.archive import loaded
from engine.errors import PackError, RequestRefused
from engine.rulebook import Rulebook

PROPOSALS = "/v1/rulebook/proposals"
SHORTEST = 8
"""Digits that name a proposal, at least: a variable that is empty names none."""

_id = click.argument("proposal", metavar="ID")
_json = click.option("--json", "as_json", is_flag=True, help="The answer of the server as JSON.")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--reason", required=True, help="Why; whoever approves reads it.")
@click.option(
    "--paper", "papers", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file to look at beside it, such as a backtest; may be given several times.",
)  # fmt: skip
@click.option("--data", type=_FILE, help="A history to compare verdicts on, with --map.")
@click.option("--map", "mapping", type=_FILE, help="Which columns of it make which fields: docs/cli.md.")
@click.option("--person", default="", help="Who wrote it, where the key is that of a program.")
@server_options
@pack_options
@language_option
def propose(
    reason: str, papers: tuple[Path, ...], data: Path | None, mapping: Path | None, person: str, server: str,
    key_file: Path | None, rules: Path | None, policies: Path | None,
) -> None:  # fmt: skip
    """Propose the rules and policies of this checkout to a server that asks for approval.

    They are checked here, with all tests and suites, and nothing with a problem is sent; the server looks again by
    itself. Three papers are made and laid beside it: what check says, what the tests of new and changed rules would
    not notice and, with --data and --map, which verdicts change from those of the rulebook in force.

    It prints the id that others approve, which stands for the rulebook, the one it was made against, its author, the
    reason and the papers. The key needs the scope author.

    \b
    Examples:
      arbiter propose --reason "large first orders of guests are asked" --key-file li.key
      arbiter propose --reason "$TITLE" --data orders.parquet --map orders.map.yaml --key-file li.key
      arbiter propose --reason "$TITLE" --person "$AUTHOR" --paper ticket.md --key-file ci.key
    """
    if (data is None) != (mapping is None):
        raise RequestRefused("--data and --map go together")
    given = _papers(papers)
    remote = Remote(server, key_file)
    found = examined((), rules, policies, reason=True)
    if found.problems:
        raise PackError(found.problems)
    made = ours.made(_in_force(remote), found, data, mapping)
    body = {
        "files": {path: content.decode() for path, content in found.tried[0].rulebook.files.items()},
        "reason": reason,
        "papers": {**given, **made},
        "person": person,
    }
    answer = remote.post(PROPOSALS, body)
    for line in _shown(answer):
        click.echo(others_line(line), err=True)
    click.echo(answer["id"])


proposal = Commands(
    name="proposal",
    lazy={
        "list": ("cli.proposing:all_proposals", "List the proposals, the newest first."),
        "show": ("cli.proposing:show", "Show a proposal and what it would change."),
        "approve": ("cli.proposing:approve", "Approve the proposal of another person."),
        "decline": ("cli.proposing:decline", "Decline a proposal, or take back your own."),
        "activate": ("cli.proposing:activate", "Let an approved proposal decide."),
    },
    about="""Look at proposed rulebooks, approve them and let them decide.

    An ID may be shortened to its first digits. Approving needs the key of a person with the scope approve, activating
    one with the scope deploy.
    """,
)


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="The proposals as JSON.")
@server_options
@language_option
def all_proposals(as_json: bool, server: str, key_file: Path | None) -> None:
    """List the proposals, the newest first: id, state, author, when, why.

    \b
    Examples:
      arbiter proposal list --key-file wang.key
    """
    items = Remote(server, key_file).get(PROPOSALS)["items"]
    if as_json:
        click.echo(json.dumps(items, indent=2))
        return
    for item in items:
        about = (item["id"][:12], _state(item), item["author"], stamp(item["created"]), item["reason"])
        click.echo("  ".join(others_line(each) for each in about))
    if not items:
        say("no proposals yet: arbiter propose --reason …", err=True)


@click.command()
@_id
@click.option("--diff", is_flag=True, help="Line by line what it would change.")
@click.option("--paper", metavar="NAME", help="Print one of its papers.")
@_json
@server_options
@language_option
def show(proposal: str, diff: bool, paper: str | None, as_json: bool, server: str, key_file: Path | None) -> None:
    """Show a proposal: who, why, which rules, its tests, its papers; with --diff every line that differs.

    \b
    Examples:
      arbiter proposal show 5f0c12ab --diff --key-file wang.key
      arbiter proposal show 5f0c12ab --paper backtest.md --key-file wang.key
    """
    remote = Remote(server, key_file)
    answer = remote.get(f"{PROPOSALS}/{_whole(remote, proposal)}")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif paper is not None:
        if paper not in answer["papers"]:
            raise RequestRefused(f"it has no paper of this name; papers are {', '.join(answer['papers']) or 'none'}")
        click.echo(others_text(answer["papers"][paper]))
    else:
        for line in _shown(answer):
            click.echo(others_line(line))
        if diff:
            click.echo("\n" + others_text(answer["difference"]), nl=False)


@click.command()
@_id
@click.option("--reason", default="", help="What you looked at.")
@server_options
@language_option
def approve(proposal: str, reason: str, server: str, key_file: Path | None) -> None:
    """Approve the proposal of another person. Of one that was forced this is the second look it waits for.

    \b
    Examples:
      arbiter proposal approve 5f0c12ab --reason "looked at the backtest of October" --key-file wang.key
    """
    _judge("approval", proposal, reason, server, key_file)


@click.command()
@_id
@click.option("--reason", required=True, help="Why; the author reads it.")
@server_options
@language_option
def decline(proposal: str, reason: str, server: str, key_file: Path | None) -> None:
    """Decline a proposal, or take back your own.

    \b
    Examples:
      arbiter proposal decline 5f0c12ab --reason "it would ask one honest guest in ten" --key-file wang.key
    """
    _judge("rejection", proposal, reason, server, key_file)


@click.command()
@_id
@click.option("--force", is_flag=True, help="Although nobody approved it: raises an alarm, and needs --reason.")
@click.option("--reason", default="", help="Why it cannot wait for a second person.")
@server_options
@language_option
def activate(proposal: str, force: bool, reason: str, server: str, key_file: Path | None) -> None:
    """Let an approved proposal decide, in all workers at once.

    \b
    Examples:
      arbiter proposal activate 5f0c12ab --key-file deploy.key
      arbiter proposal activate 5f0c12ab --force --reason "cards are being tested right now" --key-file li.key
    """
    remote = Remote(server, key_file)
    path = f"{PROPOSALS}/{_whole(remote, proposal)}/activation"
    answer = remote.post(path, {"force": force, "reason": reason})
    say(f"{answer['hash'][:12]} decides now, before it {answer['before'][:12]}")
    if force:
        say(f"another person has to look at it until {stamp(answer['proposal']['due'])}", err=True)


@click.command()
@click.option("--to", default="", metavar="HASH", help="A rulebook that was in force; without it the one before.")
@click.option("--reason", required=True, help="Why; it is recorded.")
@server_options
@language_option
def rollback(to: str, reason: str, server: str, key_file: Path | None) -> None:
    """Let the rulebook before decide again, in all workers at once. The key needs the scope deploy.

    \b
    Examples:
      arbiter rollback --reason "the new rule stops orders of one bank" --key-file deploy.key
    """
    answer = Remote(server, key_file).post("/v1/rulebook/rollback", {"to": to, "reason": reason})
    say(f"{answer['hash'][:12]} decides again, before it {answer['before'][:12]}")


def _in_force(remote: Remote) -> Rulebook:
    """The rulebook that a proposal is compared with."""
    said = remote.get("/v1/rulebook/files")
    try:
        return loaded({path: text.encode() for path, text in said["files"].items()}, strict=False)
    except PackError as error:
        what = f"this version of arbiter cannot read the rulebook in force: {error.problems[0]}"
        raise RequestRefused(f"{what}; take the version that the server runs") from None


def _papers(paths: Iterable[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        if path.name in ours.OURS:
            raise RequestRefused(f"{path.name} is made here: give this paper another name")
        if path.name in found:
            raise RequestRefused(f"two papers are called {path.name}: give one another name")
        try:
            found[path.name] = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise RequestRefused(f"{path} is not text in UTF-8") from None
    return found


def _judge(step: str, proposal: str, reason: str, server: str, key_file: Path | None) -> None:
    remote = Remote(server, key_file)
    answer = remote.post(f"{PROPOSALS}/{_whole(remote, proposal)}/{step}", {"reason": reason})
    click.echo(f"{answer['id'][:12]} {term('is')} {_state(answer)}")


def _whole(remote: Remote, start: str) -> str:
    """The id that begins so."""
    if len(start) < SHORTEST:
        raise RequestRefused(f"give at least the first {SHORTEST} digits of the proposal")
    found = [each["id"] for each in remote.get(PROPOSALS)["items"] if each["id"].startswith(start)]
    if len(found) != 1:
        if found:
            raise RequestRefused(f"several proposals have ids that begin with {start}")
        raise RequestRefused(f"no proposal has an id that begins with {start}")
    return str(found[0])


def _state(answer: dict[str, Any]) -> str:
    if answer["due"]:
        return said("in force, unseen" if answer["state"] == "in_force" else "replaced, unseen")
    return term(str(answer["state"]).replace("_", " ")) + (said(", stale") if answer["stale"] else "")


def _shown(answer: dict[str, Any]) -> Iterator[str]:
    yield from (said(others_line(line)) for line in _about(answer))
    for part in ("rules", "policies", "lists", "files"):
        for change, names in answer["found"][part].items():
            for name in names:
                yield f"{label(change)}{term(part[:-1] if part != 'policies' else 'policy')} {name}"
    for name in answer["papers"]:
        yield said(f"paper: {name}")


def _about(answer: dict[str, Any]) -> Iterator[str]:
    yield f"proposal: {answer['id']}"
    yield f"state: {_state(answer)}"
    yield f"author: {answer['author']}, {stamp(answer['created'])}"
    yield f"why: {answer['reason']}"
    yield f"rulebook: {answer['hash'][:12]}, made against {answer['base'][:12]}"
    if answer["judged_by"]:
        by = f"{answer['judged_by']}, {stamp(answer['judged'])}"
        yield f"approved: by {by}" if answer["approved"] else f"declined: by {by}"
        yield f"they say: {answer['judgement'] or '–'}"
    if answer["activated_by"]:
        yield f"activated: by {answer['activated_by']}, {stamp(answer['activated'])}"
    if answer["forced"]:
        yield f"forced: {answer['forced']}"
    if answer["due"]:
        yield f"to be looked at until {stamp(answer['due'])}"
    yield f"tests: {answer['found']['tests']} of rules and invariants passed"
