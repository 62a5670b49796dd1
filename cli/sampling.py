"""`audit sample`: decisions to look at by hand, that neither the operator nor the auditor can choose."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from cli.group import counted
from engine.errors import RequestRefused
from engine.sampling import Sample, Stratum

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

    What comes out follows from the root that the export's checkpoint signs and from the nonce, by SHA-256. So name the
    nonce after you have the export, and verify the export: then the operator could not arrange what comes out, and you
    cannot be said to have picked. Whoever draws again with the same nonce gets the same.

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
    if left:
        click.echo(f"{counted(left, 'stratum', 'strata')} had no place: take more with --n", err=True)


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
    places = folder / "positions.txt"
    first = orjson.loads((folder / "tree.json").read_bytes())["first"]
    at = (int(line) for line in places.open()) if places.exists() else iter(range(first, 2**63))
    with (folder / "entries.jsonl").open("rb") as lines:
        for position, line in zip(at, lines, strict=False):
            if b'"type":"decision"' in line:
                record = orjson.loads(line)
                if record["type"] == "decision":
                    yield position, record


def _stratum(record: Mapping[str, Any], names: list[str]) -> Stratum:
    rule = record["reasons"][0]["rule"] if record["reasons"] else "-"
    of = {
        "verdict": record["verdict"],
        "rule": rule,
        "tier": record["situation"]["tier"] or "-",
        "kind": record["event"]["kind"],
    }
    return tuple(of[name] for name in names)
