"""`appeal`: appeals against verdicts, asked of a running server with the key of a person or a service."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from cli.group import Commands, counted
from cli.language import language, language_option, said, say, term
from cli.remote import Remote, server_options
from engine.appeal import STATES

APPEALS = "/v1/appeals"

_TEXT = click.Path(allow_dash=True, path_type=Path)
_en = click.option("--en", "english", required=True, type=_TEXT, help="A file with the English text, or -.")
_zh = click.option("--zh", "chinese", required=True, type=_TEXT, help="A file with the Chinese text, or -.")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")

appeal = Commands(
    name="appeal",
    lazy={
        "open": ("cli.appeal:open_one", "Open an appeal for whoever a verdict is against."),
        "list": ("cli.appeal:all_appeals", "List appeals, the oldest first."),
        "show": ("cli.appeal:show", "Show the appeals against a decision."),
        "take": ("cli.appeal:take", "Take an appeal up."),
        "ask": ("cli.appeal:ask", "Ask the person for more."),
        "add": ("cli.appeal:add", "Add what the person says."),
        "withdraw": ("cli.appeal:withdraw", "Take an appeal back."),
        "decide": ("cli.appeal:decide", "Decide an appeal, and say why."),
    },
    about="""Appeals against verdicts: opened for a person, heard by another person than who decided, lifted at once.

    Taking up, asking and deciding need the key of a person with the scope outcome. Texts come from files, or from
    standard input with '-': so they are in no history of a shell. They are sealed.
    """,
)


@click.command("open")
@click.argument("decision")
@click.option("--kind", type=click.Choice(("appeal", "human_review")), default="appeal", show_default=True,
              help="appeal: it is wrong; human_review: a person shall look at it.")  # fmt: skip
@click.option("--ref", required=True, help="Your own id of it; the same one again gets the first answer.")
@click.option("--reason", required=True, type=_TEXT,
              help="A file with what the person says, or -.")  # fmt: skip
@_json
@server_options
@language_option
def open_one(
    decision: str, kind: str, ref: str, reason: Path, as_json: bool, server: str, key_file: Path | None
) -> None:
    """Open an appeal against a decision as it stands, by its id.

    \b
    Examples:
      arbiter appeal open 01939c3e-6f1c-7d52-a2b7-0d8f6f0b1c11 --ref obj-17 --reason letter.txt --key-file shop.key
    """
    body = {"kind": kind, "ref": ref, "reason": _text(reason)}
    _told(Remote(server, key_file).post(_path(decision), body), as_json)


@click.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--overdue", is_flag=True, help="Only those that nobody took up, or answered, in time.")
@_json
@server_options
@language_option
def all_appeals(state: str | None, overdue: bool, as_json: bool, server: str, key_file: Path | None) -> None:
    """List the appeals of the last 400 days, the oldest first.

    \b
    Examples:
      arbiter appeal list --overdue --key-file li.key
    """
    asked = {**({"state": state} if state else {}), **({"overdue": "true"} if overdue else {})}
    items = Remote(server, key_file).get(APPEALS + (f"?{urlencode(asked)}" if asked else ""))["items"]
    if as_json:
        click.echo(json.dumps(items, ensure_ascii=False, indent=2))
        return
    for item in items:
        click.echo("\n".join(_lines(item)))
    say(counted(len(items), "appeal"), err=True)


@click.command()
@click.argument("decision")
@_json
@server_options
@language_option
def show(decision: str, as_json: bool, server: str, key_file: Path | None) -> None:
    """Show the appeals against a decision, with every step.

    \b
    Examples:
      arbiter appeal show 01939c3e-6f1c-7d52-a2b7-0d8f6f0b1c11 --key-file li.key
    """
    items = Remote(server, key_file).get(_path(decision))["items"]
    if as_json:
        click.echo(json.dumps(items, ensure_ascii=False, indent=2))
        return
    for item in items:
        click.echo("\n".join(_lines(item)))
        for step in item["steps"]:
            who = step["by"]["person"] or step["by"]["name"]
            verdict = f" → {step['verdict']}" if step["verdict"] else ""
            click.echo(f"    {step['at']}  {term(step['said'], 'appeal')}  {who}{verdict}")
    if not items:
        say("no appeal against this decision", err=True)


def _ids(command: Any) -> Any:
    return click.argument("decision")(click.argument("appeal_id")(command))


@click.command()
@_ids
@_json
@server_options
@language_option
def take(decision: str, appeal_id: str, as_json: bool, server: str, key_file: Path | None) -> None:
    """Take an appeal up, so that it is not overdue for want of a person.

    \b
    Examples:
      arbiter appeal take DECISION APPEAL --key-file li.key
    """
    _told(Remote(server, key_file).post(_path(decision, appeal_id), {"what": "take"}), as_json)


@click.command()
@_ids
@click.option("--en", "english", required=True, type=_TEXT, help="A file: English.")
@click.option("--zh", "chinese", required=True, type=_TEXT, help="A file: Chinese.")
@_json
@server_options
@language_option
def ask(
    decision: str, appeal_id: str, english: Path, chinese: Path, as_json: bool, server: str, key_file: Path | None
) -> None:
    """Ask the person for more, in words of both languages. The time of waiting is added to that of the answer.

    \b
    Examples:
      arbiter appeal ask DECISION APPEAL --en ask.en.txt --zh ask.zh.txt --key-file li.key
    """
    body = {"what": "ask", "en": _text(english), "zh": _text(chinese)}
    _told(Remote(server, key_file).post(_path(decision, appeal_id), body), as_json)


@click.command()
@_ids
@click.option("--ref", required=True, help="Your own id of the addition; the same one again gets the first answer.")
@click.option("--reason", required=True, type=_TEXT, help="A file, or -.")
@_json
@server_options
@language_option
def add(
    decision: str, appeal_id: str, ref: str, reason: Path, as_json: bool, server: str, key_file: Path | None
) -> None:
    """Add what the person says or sent.

    \b
    Examples:
      arbiter appeal add DECISION APPEAL --ref obj-17-2 --reason more.txt --key-file shop.key
    """
    body = {"what": "add", "ref": ref, "reason": _text(reason)}
    _told(Remote(server, key_file).post(_path(decision, appeal_id), body), as_json)


@click.command()
@_ids
@_json
@server_options
@language_option
def withdraw(decision: str, appeal_id: str, as_json: bool, server: str, key_file: Path | None) -> None:
    """Take an appeal back, as the person wishes.

    \b
    Examples:
      arbiter appeal withdraw DECISION APPEAL --key-file shop.key
    """
    _told(Remote(server, key_file).post(_path(decision, appeal_id), {"what": "withdraw"}), as_json)


@click.command()
@_ids
@click.argument("result", type=click.Choice(("lifted", "partly", "upheld")))
@click.option("--en", "english", required=True, type=_TEXT, help="A file: English.")
@click.option("--zh", "chinese", required=True, type=_TEXT, help="A file: Chinese.")
@click.option("--verdict", default="", help="Of partly: the milder verdict.")
@click.option("--lift", multiple=True, metavar="MEASURE", help="Of partly: a measure that ends; may be repeated.")
@_json
@server_options
@language_option
def decide(
    decision: str,
    appeal_id: str,
    result: str,
    english: Path,
    chinese: Path,
    verdict: str,
    lift: tuple[str, ...],
    as_json: bool,
    server: str,
    key_file: Path | None,
) -> None:
    """Decide an appeal, with reasons in both languages. lifted ends the verdict and every measure at once; the notice
    for the person is printed.

    \b
    Examples:
      arbiter appeal decide DECISION APPEAL lifted --en why.en.txt --zh why.zh.txt --key-file li.key
      arbiter appeal decide DECISION APPEAL partly --lift block_card --en en.txt --zh zh.txt --key-file li.key
    """
    body = {"what": "decide", "result": result, "en": _text(english), "zh": _text(chinese)}
    body |= {"verdict": verdict, "lift": " ".join(lift)}
    answer = Remote(server, key_file).post(_path(decision, appeal_id), body)
    _told(answer, as_json)
    if not as_json:
        _end(answer)


def _end(answer: Mapping[str, Any]) -> None:
    """What ended, what only people can undo, and what the person is told."""
    for measure in answer["lifted"]:
        click.echo(said(f"ended: {measure['do']}"))
    for name in answer["still"]["lists"]:
        click.echo(said(f"still so: the list {name} was asked; take the entry off it where it was wrong"))
    if answer["still"]["tier"]:
        click.echo(said(f"still so: the merchant has the tier {answer['still']['tier']}"))
    if answer["notice"] is None:
        say("the rulebook of the decision has no words for the person", err=True)
    else:
        click.echo(f"\n{answer['notice'][language()]['text']}")


def _path(decision: str, appeal_id: str = "") -> str:
    path = f"/v1/decisions/{quote(decision, safe='')}/appeals"
    return f"{path}/{quote(appeal_id, safe='')}" if appeal_id else path


def _text(path: Path) -> str:
    return (sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")).strip()


def _told(answer: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_lines(answer["appeal"])))


def _lines(item: Mapping[str, Any]) -> Iterator[str]:
    """An appeal: what it is, how far, until when somebody has to act."""
    by = {"open": "acknowledge_by", "in_review": "answer_by", "more_asked": "more_by"}.get(item["state"])
    until = "" if by is None else said(f"by {item[by]}")
    late = term("overdue", "appeal") if item["overdue"] else ""
    shown = (item["id"], term(item["kind"]), term(item["state"], "appeal"), until, late, item["decision"], item["ref"])
    yield "  ".join(filter(None, shown))
