"""`witness`: cosigns the checkpoints of logs, elsewhere than they are kept."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from cli.group import Commands
from cli.serve import end
from engine.assembly import wall_clock
from engine.errors import NotFound, RequestRefused
from engine.notes import COSIGNATURE, NoteError, Verifier, read_key, verifier
from engine.witness import Witness, create, read_signer

_KEY = click.option("--key", "key", required=True, type=click.Path(path_type=Path), help="The witness's key file.")
_STATE = click.option(
    "--state", required=True, type=click.Path(path_type=Path), help="What it signed: a SQLite file. Never roll it back."
)


witness = Commands(
    name="witness",
    lazy={
        "init": ("cli.witness:init", "Make the key and the state of a witness."),
        "serve": ("cli.witness:serve", "Cosign checkpoints that go on from what was seen."),
        "show": ("cli.witness:show", "The checkpoint that was signed last, to hold an export against."),
    },
    about="""Cosign the checkpoints of logs, elsewhere than they are kept.

    Run it in other hands than the log: the auditor's, a partner's, another department's. It needs no database server
    and sees no entry, only how many there are and their root.
    """,
)


@click.command()
@click.argument("name")
@_KEY
@_STATE
def init(name: str, key: Path, state: Path) -> None:
    """Make the key and the empty state of a witness called NAME, and print the key's public side.

    The log's operator sets it as ARBITER_WITNESSES, with the witness's address; auditors give it to verify.py.

    \b
    Examples:
      arbiter witness init witness.example.org/w1 --key witness.json --state witness.db
    """
    if not name or any(sign.isspace() or sign == "+" for sign in name):
        raise RequestRefused("a witness's name has no blanks and no '+', such as witness.example.org/w1")
    click.echo(verifier(create(key, state, name), COSIGNATURE).text)


@click.command()
@_KEY
@_STATE
@click.option("--log", "logs", required=True, multiple=True, metavar="KEY", help="The public key of a log to watch.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8100, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on.")
def serve(key: Path, state: Path, logs: tuple[str, ...], host: str, port: int) -> None:
    """Serve add-checkpoint (C2SP tlog-witness) until a signal ends it.

    A log's key is what GET /v1/keys/receipt of its server calls vkey.

    \b
    Examples:
      arbiter witness serve --key witness.json --state witness.db --log audit.example.com/decisions+18a5229a+AQOhB7/z...
    """
    from api.witness import serve as serve_witness

    watching = Witness(read_signer(key), state, map(_log, logs), wall_clock)
    signal.signal(signal.SIGTERM, end)
    serve_witness(watching, host, port, lambda: click.echo(f"The witness listens on http://{host}:{port}", err=True))


@click.command()
@_KEY
@_STATE
@click.argument("log")
def show(key: Path, state: Path, log: str) -> None:
    """Print the checkpoint of LOG, a log's name, that this witness signed last.

    Whoever audits holds an export against it: verify.py DIR --against FILE. What the log signed and nobody
    showed to go on is told on standard error: ask the log for the proof.

    \b
    Examples:
      arbiter witness show --key witness.json --state witness.db audit.example.com/decisions > checkpoint
    """
    watching = Witness(read_signer(key), state, (), wall_clock)
    for name, _, why, _ in watching.refusals():
        click.echo(f"refused of {name}: {why}", err=True)
    note = watching.latest(log)
    if note is None:
        raise NotFound(f"this witness has signed nothing of a log '{log}'")
    click.echo(note, nl=False)


def _log(text: str) -> Verifier:
    try:
        return read_key(text)
    except NoteError as error:
        raise RequestRefused(f"--log: {error}") from None
