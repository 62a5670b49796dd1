"""`audit announce` and `audit sample`: decisions to look at by hand, which neither operator nor auditor can choose."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import orjson

from cli.group import counted
from cli.opened import with_ledger
from cli.settings import TENANT, actor
from engine.assembly import wall_clock
from engine.errors import NotFound, RequestRefused
from engine.jcs import canonical
from engine.journal import Journal
from engine.ledger import Ledger
from engine.sampling import Sample, Stratum

ANNOUNCED = "sample_nonce"
STRATA = ("verdict", "rule", "tier", "kind")
_OF = f"By which of {', '.join(STRATA)}; with ',' between."


@click.command("sample", short_help="Draw decisions that nobody can choose.")
@click.argument("folder", metavar="EXPORT", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--n", "size", default=60, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@click.option("--strata", default="verdict", show_default=True, metavar="WORDS", help=_OF)
@click.option("--nonce", required=True, help="The auditor's number, named only after the export is there.")
@click.option("--json", "as_json", is_flag=True, help="One decision a line.")
def sample(folder: Path, size: int, strata: str, nonce: str, as_json: bool) -> None:
    """Draw decisions out of EXPORT, a folder that `arbiter audit export` wrote, to look at by hand.

    What comes out follows from the root that the export's checkpoint signs and from the nonce, by SHA-256. Name the
    nonce after you have the export, and verify the export: then the operator could not arrange what comes out. Have its
    hash put into the log before that (arbiter audit announce): then you did not try nonces until you liked what came
    out, and it is said at which position that stands. Whoever draws again with the same nonce gets the same.

    Of each stratum (each verdict, or each verdict of each rule …) one at least comes out where there are as many
    places; the rest goes by size. The weight says for how many decisions of its stratum one stands. A decision's rule
    is its gravest; '-' is none.

    \b
    Examples:
      arbiter audit sample november --nonce 80417
      arbiter audit sample november --n 60 --strata verdict,rule,tier --nonce 80417 --json > sample.jsonl
    """
    if not nonce.strip():
        raise click.UsageError("--nonce is empty: anybody could have foreseen what comes out")
    if not nonce.isprintable():
        raise click.UsageError("--nonce holds what nobody can type again")
    names = _strata(strata)
    root, told = _checkpoint(folder)
    drawing = Sample(root, nonce, size)
    for position, record in _decisions(folder):
        drawing.see(position, _stratum(record, names))
    drawn = drawing.drawn()
    chosen = {position: stratum for stratum, positions in drawn.items() for position in positions}
    if not as_json:
        click.echo(f"{'position':>10}  {'id':<36}  {'weight':>9}  {' / '.join(names)}")
    for position, record in _decisions(folder):
        if position in chosen:
            stratum = chosen[position]
            weight = drawing.counts[stratum] / len(drawn[stratum])
            line = {"position": position, "id": record["id"], "event_id": record["event"]["id"], "weight": weight}
            if as_json:
                click.echo(orjson.dumps({**line, **dict(zip(names, stratum, strict=True))}).decode())
            else:
                click.echo(f"{position:>10}  {record['id']:<36}  {weight:>9.1f}  {' / '.join(stratum)}")
    left = len(drawing.counts) - len(drawn)
    seen = f"{counted(sum(drawing.counts.values()), 'decision')} in {counted(len(drawing.counts), 'stratum', 'strata')}"
    click.echo(f"{len(chosen)} of {seen}, from {told} and the nonce {nonce}", err=True)
    place = _announced(folder, sha256(nonce.encode()).hexdigest())
    if place is None:
        click.echo("This nonce was not announced in the log: whoever named it may have tried many.", err=True)
    else:
        click.echo(f"Its hash stands in the log at position {place}: it was chosen before.", err=True)
    if left:
        click.echo(f"{counted(left, 'stratum', 'strata')} had no place: take more with --n", err=True)


@click.command("announce", short_help="Put the hash of an auditor's nonce into the log, before the export.")
@click.argument("hashed", metavar="SHA256")
@click.option("--tenant", default=TENANT, show_default=True, help="In whose log.")
def announce(hashed: str, tenant: str) -> None:
    """Put the SHA-256 of a nonce into the log. The auditor thinks of a nonce and keeps it, gives you its hash, and
    names it when the export is there: so nobody can have tried nonces until what came out was liked.

    \b
    Examples:
      printf %s 80417-by-the-auditor | sha256sum
      arbiter audit announce 2e1b6c4f0a5d8b9c7e3f1a2b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f
    """
    if not re.fullmatch(r"[0-9a-f]{64}", hashed):
        raise click.UsageError("this is no SHA-256: 64 small hex digits")

    async def work(ledger: Ledger) -> str:
        if tenant not in await ledger.tenants():
            raise NotFound(f"there is no entry of a tenant '{tenant}'")
        return await Journal(ledger, wall_clock).access(tenant, ANNOUNCED, _object(hashed), "audit", 0, actor())

    click.echo(f"recorded as {with_ledger(work)}", err=True)


def _object(hashed: str) -> str:
    """The object of the record that announces a nonce."""
    return canonical({"sha256": hashed}).decode()


def _announced(folder: Path, hashed: str) -> int | None:
    """The position at which a nonce was announced."""
    wanted = ("access", ANNOUNCED, _object(hashed))
    found = _records(folder, hashed.encode())
    told = (position for position, each in found if (each["type"], each.get("what"), each.get("object")) == wanted)
    return next(told, None)


def _strata(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in STRATA]:
        raise click.UsageError(f"--strata: there is no '{unknown[0]}'; there are {', '.join(STRATA)}")
    return names


def _checkpoint(folder: Path) -> tuple[bytes, str]:
    try:
        lines = (folder / "checkpoint").read_text("utf-8").split("\n")
        root = b64decode(lines[2], validate=True)
    except (OSError, ValueError, IndexError) as error:
        raise RequestRefused(f"{folder} is no export: its checkpoint cannot be read ({error})") from None
    return root, f"the root of {lines[1]} entries"


def _decisions(folder: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The decisions of an export with their positions."""
    for position, record in _records(folder, b'"type":"decision"'):
        if record["type"] == "decision":
            yield position, record


def _records(folder: Path, having: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records in whose lines this stands, with their positions."""
    places = folder / "positions.txt"
    first = orjson.loads((folder / "tree.json").read_bytes())["first"]
    at = (int(line) for line in places.open()) if places.exists() else iter(range(first, 2**63))
    with (folder / "entries.jsonl").open("rb") as lines:
        for position, line in zip(at, lines, strict=False):
            if having in line:
                yield position, orjson.loads(line)


def _stratum(record: Mapping[str, Any], names: list[str]) -> Stratum:
    rule = record["reasons"][0]["rule"] if record["reasons"] else "-"
    of = {
        "verdict": record["verdict"],
        "rule": rule,
        "tier": record["situation"]["tier"] or "-",
        "kind": record["event"]["kind"],
    }
    return tuple(of[name] for name in names)
