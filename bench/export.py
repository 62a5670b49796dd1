"""An export of a whole log: how long it takes, and how much memory it holds at most, beside a tenth of the log.

    python -m bench.export [--check] [--entries 1000000] [--format jsonl]

The log is of one decision to nineteen parcels, on SQLite. Their records are those of real events, copied under new
ids, as only their number matters. The bar: ten times the log takes no more than 1.25 times the memory, and what was
exported holds by `verify.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import orjson

from bench._orders import orders
from cli import verify
from engine.assembly import Settings, open_arbiter
from engine.callers import Caller
from engine.ledger import Entry, Filter, Ledger, new_id
from engine.notes import verifier
from engine.vault import KeyFile

TENANT = "bench"
CALLER = Caller("bench", "service", TENANT, frozenset({"score"}))
PARCELS = 19
WRITERS = 1_024
BAR = 1.25
MB = 1 << 20
TELL = """\
import atexit, pathlib
@atexit.register
def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path({path!r}).write_text(status.split("VmHWM:")[1].split()[0])
"""
"""At its end a process writes what memory it held at most, in KiB. What the system tells its parent is never less than
what that held itself."""
PARCEL = {
    "kind": "fulfilment",
    "event_id": "parcel",
    "order_id": "order",
    "at": "2026-11-29T00:00:00Z",
    "fulfilment": {"stage": "shipped"},
}


class Ran(NamedTuple):
    """A command that ended well: seconds, and bytes of memory at most."""

    seconds: float
    memory: int


def main(entries: int, form: str) -> int:
    """Export a tenth and the whole, print, and say by the exit status whether the bar is reached."""
    with TemporaryDirectory(prefix="arbiter-bench-") as made:
        folder = Path(made)
        environ = {
            **os.environ,
            "ARBITER_DATABASE_URL": f"sqlite:///{folder}/ledger.db",
            "ARBITER_KEY_FILE": str(folder / "keys.json"),
        }
        key = verifier(KeyFile.create(folder / "keys.json").signer).text
        few, all_of_them = (exported(folder, environ, count, form) for count in (entries // 10, entries))
        out = folder / f"export-{entries}"
        checked = run(
            f"import runpy; runpy.run_path({verify.__file__!r}, None, '__main__')", [str(out), "--key", key], environ
        )
        size = (out / "entries.jsonl").stat().st_size
    ratio = all_of_them.memory / few.memory
    print(f"{'entries':>12}  {'seconds':>8}  {'entries/s':>10}  {'most memory':>12}")
    for count, ran in ((entries // 10, few), (entries, all_of_them)):
        print(f"{count:>12,}  {ran.seconds:>8.1f}  {count / ran.seconds:>10,.0f}  {ran.memory / MB:>9,.0f} MB")
    print(f"verify.py: {checked.seconds:.1f} s, {checked.memory / MB:,.0f} MB, over {size / MB:,.0f} MB of entries")
    print(f"memory: {ratio:.2f} x that of a tenth (bar {BAR})")
    return 0 if ratio <= BAR else 1


def exported(folder: Path, environ: dict[str, str], count: int, form: str) -> Ran:
    """The log filled up to so many entries, and exported."""
    asyncio.run(filled(folder, count))
    typed = ["audit", "export", "--format", form, "--out", str(folder / f"export-{count}")]
    return run("from cli import main; main()", typed, environ)


def run(code: str, typed: Sequence[str], environ: dict[str, str]) -> Ran:
    """A process of its own, that must end well."""
    with TemporaryDirectory(prefix="arbiter-bench-") as made:
        told = Path(made, "peak")
        began = time.perf_counter()
        command, quiet = [sys.executable, "-c", TELL.format(path=str(told)) + code, *typed], subprocess.DEVNULL
        subprocess.run(command, env=environ, check=True, stdout=quiet, stderr=quiet)
        return Ran(time.perf_counter() - began, int(told.read_text()) * 1024)


async def filled(folder: Path, count: int) -> None:
    """The ledger in the folder with so many entries, all of which have a place."""
    settings = Settings(f"sqlite:///{folder}/ledger.db", key_file=folder / "keys.json")
    if not (folder / "ledger.db").exists():
        arbiter = await open_arbiter(settings)
        try:
            await arbiter.decide(next(orders(1)), CALLER)
            await arbiter.observe(orjson.dumps(PARCEL), CALLER)
        finally:
            await arbiter.close()
    ledger = await Ledger.open(settings.database_url, KeyFile.read(folder / "keys.json"))
    try:
        order, parcel = [
            (await ledger.page(TENANT, Filter(kind=kind))).entries[0].entry for kind in ("decision", "event")
        ]
        numbers = iter(range(await ledger.log.size(), count))

        async def write() -> None:
            for number in numbers:
                await ledger.append(copied(parcel if number % (PARCELS + 1) else order, number))

        await asyncio.gather(*(write() for _ in range(WRITERS)))
        await ledger.log.catch_up()
    finally:
        await ledger.close()


def copied(model: Entry, number: int) -> Entry:
    """The same under other ids."""
    id, event_id = new_id(), f"{model.event_kind}-{number:012}"
    named = model.leaf.replace(model.id.encode(), id.encode())
    leaf = named.replace(f'"id":"{model.event_id}"'.encode(), f'"id":"{event_id}"'.encode())
    return replace(model, id=id, event_id=event_id, leaf=leaf)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--format", default="jsonl")
    given = parser.parse_args()
    failed = main(given.entries, given.format)
    sys.exit(failed if given.check else 0)
