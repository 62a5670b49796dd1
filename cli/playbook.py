"""`playbook`: what is done when something is going on, read from the files; and incidents on a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cli.group import Commands, counted
from cli.language import label, language, language_option, said, say, term
from cli.packs import rulebook
from cli.remote import Remote, server_options
from cli.settings import pack_options
from cli.tables import stamp
from engine.errors import RequestRefused, did_you_mean
from engine.packs.moments import BEIJING
from engine.playbooks import Playbook, filled
from engine.response import whole

INCIDENTS = "/v1/incidents"
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))

_json = click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
_id = click.argument("incident", metavar="ID")
_person = click.option("--person", default="", help="Who did it, where the key is that of a program.")

playbook = Commands(
    name="playbook",
    lazy={
        "list": ("cli.playbook:all_playbooks", "List the playbooks."),
        "show": ("cli.playbook:show", "Show a playbook: steps, clocks, messages."),
        "start": ("cli.playbook:start", "Open an incident."),
        "drill": ("cli.playbook:drill", "Practise a playbook."),
        "status": ("cli.playbook:status", "How incidents stand, and what is overdue."),
        "step": ("cli.playbook:step", "Say that a step was done, or is passed over."),
        "message": ("cli.playbook:message", "A ready message, with its blanks filled."),
        "close": ("cli.playbook:close", "End an incident."),
    },
    about="""What is done when something is going on: by whom, until when, and what is said meanwhile.

    `list` and `show` read the files, so they work while no server does. The others ask a server, with a key that has
    the scope incident; a step that switches a mode on needs the scope deploy too.
    """,
)


@click.command("list")
@_json
@pack_options
@language_option
def all_playbooks(as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """List the playbooks: what each is for, and what opens it by itself.

    \b
    Examples:
      arbiter playbook list
      arbiter playbook list --lang zh
    """
    books = rulebook(rules, policies).playbooks
    if as_json:
        click.echo(json.dumps([whole(book) for book in books], ensure_ascii=False, indent=2))
        return
    for book in books:
        click.echo(f"{book.id}  {book.name[language()]}")
        click.echo(f"  {book.about[language()]}")
    say(counted(len(books), "playbook"), err=True)


@click.command()
@click.argument("name")
@_json
@pack_options
@language_option
def show(name: str, as_json: bool, rules: Path | None, policies: Path | None) -> None:
    """Show a playbook: what opens it, each step with its role, time and evidence, the clocks of the law, and messages.

    \b
    Examples:
      arbiter playbook show data-breach
      arbiter playbook show data-breach --lang zh
    """
    books = {book.id: book for book in rulebook(rules, policies).playbooks}
    if name not in books:
        hint = did_you_mean(name, books) or ("playbooks are " + ", ".join(books) if books else "there is none")
        raise RequestRefused(f"there is no playbook '{name}'; {hint}")
    if as_json:
        click.echo(json.dumps(whole(books[name]), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_whole(books[name])))


@click.command()
@click.argument("name")
@click.option("--reason", required=True, help="What is going on; it is recorded.")
@click.option("--known", metavar="TIME", help="When it became known, with its zone; now when absent.")
@_person
@_json
@server_options
@language_option
def start(
    name: str, reason: str, known: str | None, person: str, as_json: bool, server: str, key_file: Path | None
) -> None:
    """Open an incident: from now on its steps have their time, and the clocks of the law run from when it was known.

    \b
    Examples:
      arbiter playbook start data-breach --reason "a backup lies open" --key-file li.key
      arbiter playbook start data-breach --reason "…" --known 2026-11-30T09:20:00+08:00 --key-file li.key
    """
    known_at = {"known": known} if known else {}
    body = {"playbook": name, "kind": "incident", "reason": reason, "person": person, **known_at}
    _opened(Remote(server, key_file).post(INCIDENTS, body), as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--reason", default="a drill", show_default=True, help="What is practised; it is recorded.")
@_person
@_json
@server_options
@language_option
def drill(name: str, reason: str, person: str, as_json: bool, server: str, key_file: Path | None) -> None:
    """Practise a playbook: all is taken in and recorded as in an incident, and nothing is switched.

    \b
    Examples:
      arbiter playbook drill data-breach --reason "the yearly drill" --key-file li.key
    """
    body = {"playbook": name, "kind": "drill", "reason": reason, "person": person}
    _opened(Remote(server, key_file).post(INCIDENTS, body), as_json=as_json)


@click.command()
@click.argument("incident", metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="Those that are closed, too.")
@_json
@server_options
@language_option
def status(incident: str | None, everything: bool, as_json: bool, server: str, key_file: Path | None) -> None:
    """How incidents stand: with an ID each step and clock, without one those that are open, and which drills are due.
    Exit code 1 while a step or a clock of an incident is overdue.

    \b
    Examples:
      arbiter playbook status --key-file li.key
      arbiter playbook status 2026-11-30-7f3a --key-file li.key
    """
    remote = Remote(server, key_file)
    if incident is not None:
        answer = remote.get(f"{INCIDENTS}/{incident}")
        late = any(each["overdue"] for part in ("steps", "timers") for each in answer[part])
        lines = _standing(answer)
    else:
        items = [each for each in remote.get(INCIDENTS)["items"] if everything or each["closed"] is None]
        answer = {"incidents": items, "playbooks": remote.get("/v1/playbooks")["items"]}
        late = any(each["overdue"] for each in items if each["kind"] == "incident")
        lines = _overview(answer)
    click.echo(json.dumps(answer, ensure_ascii=False, indent=2) if as_json else "\n".join(lines))
    raise SystemExit(int(late))


@click.command()
@_id
@click.argument("step")
@click.option("--evidence", help="What shows that it was done.")
@click.option("--skip", metavar="REASON", help="Pass over it, and why.")
@_person
@_json
@server_options
@language_option
def step(
    incident: str, step: str, evidence: str | None, skip: str | None, person: str, as_json: bool, server: str,
    key_file: Path | None,
) -> None:  # fmt: skip
    """Say that a step was done, with what shows it, or pass over it with the reason. Both are recorded.

    \b
    Examples:
      arbiter playbook step 2026-11-30-7f3a contain --evidence "ticket 4711: key revoked" --key-file li.key
      arbiter playbook step 2026-11-30-7f3a tell-persons --skip "nobody is affected" --key-file li.key
    """
    if (evidence is None) == (skip is None):
        raise RequestRefused("give either --evidence or --skip")
    body = {"state": "done" if skip is None else "skipped", "evidence": evidence or skip, "person": person}
    answer = Remote(server, key_file).post(f"{INCIDENTS}/{incident}/steps/{step}", body)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    left = [each["id"] for each in answer["steps"] if each["state"] == "open"]
    say(f"{step} is done" if skip is None else f"{step} is passed over")
    say(f"left: {', '.join(left)}" if left else "no step is open: arbiter playbook close")


@click.command()
@_id
@click.argument("name")
@click.option("--set", "values", multiple=True, metavar="BLANK=TEXT", help="What stands in a blank; several times.")
@server_options
@language_option
def message(incident: str, name: str, values: tuple[str, ...], server: str, key_file: Path | None) -> None:
    """Print a ready message, with the blanks that you fill; which are left is told. Nothing is sent.

    \b
    Examples:
      arbiter playbook message 2026-11-30-7f3a buyers --set what="…" --set contact="…" --lang zh --key-file li.key
    """
    given = dict(_pair(each) for each in values)
    answer = Remote(server, key_file).get(f"{INCIDENTS}/{incident}")
    messages = {each["id"]: each for each in answer["messages"]}
    if name not in messages:
        hint = did_you_mean(name, messages) or ("messages are " + ", ".join(messages) if messages else "it has none")
        raise RequestRefused(f"there is no message '{name}'; {hint}")
    for blank in given:
        if blank not in answer["blanks"]:
            hint = did_you_mean(blank, answer["blanks"]) or "blanks are " + ", ".join(answer["blanks"])
            raise RequestRefused(f"there is no blank '{blank}'; {hint}")
    text = filled(messages[name]["text"][language()], given)
    click.echo(text)
    for blank, what in answer["blanks"].items():
        if f"{{{blank}}}" in text:
            say(f"not filled: {blank} ({what[language()]})", err=True)


@click.command()
@_id
@click.option("--conclusion", required=True, help="What came of it; it is recorded.")
@_person
@server_options
@language_option
def close(incident: str, conclusion: str, person: str, server: str, key_file: Path | None) -> None:
    """End an incident or a drill, once each of its steps is done or passed over.

    \b
    Examples:
      arbiter playbook close 2026-11-30-7f3a --conclusion "one key, revoked; 312 persons told" --key-file li.key
    """
    Remote(server, key_file).post(f"{INCIDENTS}/{incident}/close", {"conclusion": conclusion, "person": person})
    say(f"{incident} is closed")


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise RequestRefused(f"write --set BLANK=TEXT, not '{text}'")
    return name.strip(), value


def _opened(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    for line in _standing(answer):
        click.echo(line, err=True)
    click.echo(answer["id"])


# Lines


def _whole(book: Playbook) -> Iterator[str]:
    tongue = language()
    yield f"{book.id}: {book.name[tongue]}"
    yield book.about[tongue]
    yield f"{label('owner')}{book.owner}"
    for trigger in whole(book)["triggers"]:
        yield label("opens by itself on") + _trigger(trigger)
    for number, each in enumerate(book.steps, 1):
        time, role = length(each.within // 1_000_000), book.roles[each.role][tongue]
        yield f"\n{number}. {each.id}  {said(f'within {time}')}, {role}"
        yield f"   {each.what[tongue]}"
        yield f"   {label('evidence')}{each.evidence[tongue]}"
        if each.mode:
            how = "switched on by itself" if each.automatic else "switched on with this step"
            time = length(each.mode[1] // 1_000_000)
            yield f"   {said(f'the mode {each.mode[0]}, for {time}')}, {said(how)}"
    for timer in book.timers:
        law = f" ({', '.join(timer.law)})" if timer.law else ""
        time = length(timer.within // 1_000_000)
        yield f"\n{label('clock')}{timer.id}  {said(f'{time} from when it is known, until {timer.step}')}{law}"
        yield f"   {timer.what[tongue]}"
    for message in book.messages:
        yield f"\n{label('message')}{message.id}  {message.to[tongue]}"
        yield f"   {message.text[tongue]}"
    for blank, what in book.blanks.items():
        yield f"   {{{blank}}}: {what[tongue]}"
    yield "\n" + said(f"to be practised every {length(book.drill_every // 1_000_000)}")


def _trigger(trigger: Mapping[str, Any]) -> str:
    told = ((key.removesuffix("_s"), length(value) if key.endswith("_s") else value) for key, value in trigger.items())
    return ", ".join(f"{key} {value}" for key, value in told)


def _overview(answer: Mapping[str, Any]) -> Iterator[str]:
    for each in answer["incidents"]:
        state = said("closed") if each["closed"] else said(f"open, next due {_when(each['due'])}")
        yield f"{each['id']}  {each['playbook']}  {term(each['kind'])}  {state}"
        yield f"  {label('why')}{each['reason']} ({each['opened_by']})"
        if each["overdue"] and not each["closed"]:
            yield f"  {label('overdue')}{', '.join(each['overdue'])}"
    yield said(counted(len(answer["incidents"]), "incident"))
    for each in answer["playbooks"]:
        if each["drill_due"] is None:
            yield said(f"{each['playbook']} was never practised")
        else:
            yield said(f"{each['playbook']} is to be practised by {_when(each['drill_due'])}")


def _standing(answer: Mapping[str, Any]) -> Iterator[str]:
    tongue = language()
    kind = term(answer["kind"])
    yield f"{answer['id']}  {answer['playbook']}: {answer['name'][tongue]} ({kind})"
    yield f"{label('why')}{answer['reason']} ({answer['opened_by']}; {answer['cause']})"
    yield said(f"known {_when(answer['known'])}, opened {_when(answer['opened'])}")
    for each in answer["timers"]:
        law = f" ({', '.join(each['law'])})" if each["law"] else ""
        state = said("overdue") if each["overdue"] else term(each["state"], "incident")
        yield f"{label('clock')}{each['id']}{law}  {state}, {_due(each)}"
    for number, each in enumerate(answer["steps"], 1):
        state = said("overdue") if each["overdue"] else term(each["state"], "incident")
        yield f"{number}. {each['id']}  {state}, {_due(each)}"
        if each["state"] == "open":
            yield f"   {each['what'][tongue]}"
        else:
            yield f"   {each['said']} ({each['by']}, {_when(each['at'])})"
    if answer["closed"]:
        yield said(f"closed {_when(answer['closed'])} by {answer['closed_by']}")
        yield f"   {answer['conclusion']}"


def _due(each: Mapping[str, Any]) -> str:
    return said(f"due {_when(each['due'])}")


def _when(moment: int | None) -> str:
    return "-" if moment is None else stamp(moment, BEIJING)


def length(seconds: int) -> str:
    """A length of time in its largest whole unit: 4 h, 15 min."""
    size, unit = next((size, unit) for size, unit in UNITS if seconds % size == 0)
    return f"{seconds // size} {unit}"
