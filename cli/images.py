"""`images`: known images kept on a server, images looked at by it, and detectors tried before they look."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli.group import Commands
from cli.language import language_option, said, say
from cli.remote import Remote, server_options
from cli.tables import stamp
from engine.errors import ModelUnavailable, RequestRefused
from engine.images import KINDS
from engine.images.card import read_card
from engine.images.detector import Detector
from engine.images.reading import look
from engine.packs.moments import end_of, written_end

IMAGES, REFERENCES = "/v1/images", "/v1/images/references"
MAX_BYTES = 64 << 20
"""Of a file that is read here; the server has a limit of its own."""
SHORTEST = 4
"""Digits that name a known image, at least."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="The answers of the server as JSON.")
_id = click.argument("reference", metavar="ID")

images = Commands(
    name="images",
    lazy={
        "check": ("cli.images:check", "Look at images: which known ones they look like."),
        "add": ("cli.images:add", "Let images be known."),
        "list": ("cli.images:all_references", "List the known images."),
        "remove": ("cli.images:remove", "Ask for the end of a known image."),
        "approve": ("cli.images:approve", "Approve the end that another person asked for."),
        "keep": ("cli.images:keep", "Say no to an end that waits."),
        "detector": ("cli.images:detector", "Check the folder of a detector, and try it."),
    },
    about="""Known images that those of listings are compared with, on a server, and detectors that look at them.

    An ID may be shortened to its first digits. check needs a key with the scope score; add one with score and rules;
    the others the scope rules, and ending what is known the keys of two persons.
    """,
)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@_json
@server_options
@language_option
def check(files: tuple[Path, ...], as_json: bool, server: str, key_file: Path | None) -> None:
    """Send images to the server and show which known ones they look like and what its detector sees.

    \b
    Examples:
      arbiter images check bag.jpg shoe.png --key-file shop.key
    """
    remote = Remote(server, key_file)
    for file in files:
        shown = remote.send(IMAGES, _body(file))
        if as_json:
            click.echo(json.dumps({"file": str(file), **shown}, ensure_ascii=False))
            continue
        click.echo(f"{file}  sha256:{shown['sha256']}")
        for line in _looked(shown):
            click.echo(f"  {line}")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@click.option("--kind", required=True, type=click.Choice(KINDS), help="What the images show.")
@click.option("--label", "name", required=True, help="What exactly, in a word that conditions can name.")
@click.option("--reason", required=True, help="Why; it is kept with the record.")
@click.option("--expires", metavar="DAY", help="Until when it counts; without it until it is ended.")
@click.option("--person", default="", help="Who decided, where the key is that of a program.")
@_json
@server_options
@language_option
def add(
    files: tuple[Path, ...], kind: str, name: str, reason: str, expires: str | None, person: str, as_json: bool,
    server: str, key_file: Path | None,
) -> None:  # fmt: skip
    """Let images be known from now on: they are sent, and those of listings are compared with them.

    \b
    Examples:
      arbiter images add fake-1.jpg fake-2.jpg --kind counterfeit --label acme-bag --reason "test purchase 118"
      arbiter images add logo.png --kind brand_mark --label acme --reason "notice 77" --expires 2027-11-30
    """
    remote = Remote(server, key_file)
    more = {"expires": _end(expires)} if expires else {}
    for file in files:
        shown = remote.send(IMAGES, _body(file))
        if not shown["comparable"]:
            why = shown["broken"] or "one colour"
            raise RequestRefused(f"{file}: nothing can be compared with it ({why})")
        given = {"image": shown["sha256"], "kind": kind, "label": name, "reason": reason, "person": person, **more}
        answer = remote.post(REFERENCES, given)
        click.echo(json.dumps(answer, ensure_ascii=False) if as_json else _line(answer))


@click.command("list")
@click.option("--all", "every", is_flag=True, help="Those too that have ended.")
@_json
@server_options
@language_option
def all_references(every: bool, as_json: bool, server: str, key_file: Path | None) -> None:
    """List the known images: id, state, kind, label, who added them when, why.

    \b
    Examples:
      arbiter images list --key-file li.key
    """
    found = Remote(server, key_file).get(REFERENCES)["items"]
    shown = [each for each in found if every or each["state"] != "ended"]
    if as_json:
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    for each in shown:
        click.echo(_line(each))
    if not shown:
        say("no known images: arbiter images add FILE", err=True)


@click.command()
@_id
@server_options
@language_option
def remove(reference: str, server: str, key_file: Path | None) -> None:
    """Ask for the end of a known image. It counts until a second person approves.

    \b
    Examples:
      arbiter images remove 5f0c12ab --key-file li.key
    """
    remote = Remote(server, key_file)
    click.echo(_line(remote.delete(f"{REFERENCES}/{_whole(remote, reference)}")))


@click.command()
@_id
@server_options
@language_option
def approve(reference: str, server: str, key_file: Path | None) -> None:
    """Let a known image end whose end another person asked for.

    \b
    Examples:
      arbiter images approve 5f0c12ab --key-file wang.key
    """
    remote = Remote(server, key_file)
    click.echo(_line(remote.post(f"{REFERENCES}/{_whole(remote, reference)}/approval", {})))


@click.command()
@_id
@server_options
@language_option
def keep(reference: str, server: str, key_file: Path | None) -> None:
    """Say no to the end of a known image that waits: it goes on counting.

    \b
    Examples:
      arbiter images keep 5f0c12ab --key-file wang.key
    """
    remote = Remote(server, key_file)
    click.echo(_line(remote.delete(f"{REFERENCES}/{_whole(remote, reference)}/approval")))


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("files", nargs=-1, metavar="[FILE...]", type=_FILE)
@language_option
def detector(folder: Path, files: tuple[Path, ...]) -> None:
    """Check the folder of a detector and print its name; with FILEs, what it sees on them.

    Every problem of its card is shown with its place. The model is loaded and tried on a grey image.

    \b
    Examples:
      arbiter images detector weapons
      arbiter images detector weapons photo.jpg
    """
    found = read_card(folder)
    weights = folder / str(found.card.model.file)
    try:
        model = Detector(found.name, found.card, weights.read_bytes())
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own kinds
        raise ModelUnavailable(f"{weights}: {error}") from None
    for file in files:
        click.echo(str(file))
        for line in _looked({**look(_body(file), model.name, model.detect).json(), "matches": [], "examined": True}):
            click.echo(f"  {line}")
    click.echo(found.name)
    if folder.resolve().name != found.name:
        say(f"rename the folder to {found.name} before a server uses it", err=True)


def _end(day: str) -> str:
    """The end of a day, or an instant, as the API reads it."""
    try:
        end = end_of(day)
    except ValueError as error:
        raise click.UsageError(f"--expires {day}: {error}") from None
    return datetime.fromtimestamp(end / 1_000_000, UTC).isoformat()


def _body(file: Path) -> bytes:
    if file.stat().st_size > MAX_BYTES:
        raise RequestRefused(f"{file} is larger than {MAX_BYTES >> 20} MiB")
    return file.read_bytes()


def _looked(shown: Mapping[str, Any]) -> Iterator[str]:
    """What was found on an image, a line each."""
    if shown["broken"]:
        yield said(f"broken: {shown['broken']}")
        return
    for match in shown["matches"]:
        alike = said(f"like the known image {match['reference']}")
        yield f"{alike}  {match['kind']}  {match['label']}  {match['distance']}/256"
    for seen in shown["detections"]:
        yield f"{said('seen')}  {seen['label']}  {seen['score'] / 1000:.3f}  {seen['box']}"
    if not shown["matches"] and not shown["detections"]:
        yield said("nothing found" if shown["examined"] else "like no known image; no detector looked")


def _line(reference: Mapping[str, Any]) -> str:
    until = f"  until {written_end(reference['expires'])}" if reference["expires"] else ""
    parts = (reference["id"], reference["state"], reference["kind"], reference["label"], reference["added_by"])
    return "  ".join((*parts, stamp(reference["added"]), reference["reason"])) + until


def _whole(remote: Remote, short: str) -> str:
    """The id that begins so."""
    if len(short) < SHORTEST:
        raise RequestRefused(f"give at least {SHORTEST} digits of the id")
    found = [each["id"] for each in remote.get(REFERENCES)["items"] if each["id"].startswith(short)]
    if len(found) != 1:
        what = "no known image has an id that begins so" if not found else "several known images have ids that begin so"
        raise RequestRefused(f"{short}: {what}")
    return str(found[0])
