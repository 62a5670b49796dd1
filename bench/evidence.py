"""What proving costs: the tree, the offline check, the sequencer, and the log beside the verdicts.

    python -m bench.evidence [--check] [--entries 1000000]

Each figure beside a baseline of the same run: the tree beside hashing the same leaves once; verify.py beside reading
and hashing the file; the sequencer beside the writer that fills it; HTTP with the log kept beside HTTP without.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, select

from bench import http
from cli import verify
from engine import database as db
from engine import merkle
from engine.ledger import Entry, Ledger, new_id
from engine.notes import Checkpoint, sign, verifier
from engine.receipt import Signer
from engine.vault import KeyFile
from tests import servers

LEAF = json.dumps({"event": {"id": "{:012}", "public": {"text": "x" * 1_200}}}).replace("{:012}", "%012d").encode()
LEAVES = 200_000
APPENDS_BAR = 300_000
VERIFY_BAR = 60.0
ROWS_BAR = 8_000
LAG_BAR = 1.0
HTTP_BAR = 0.85
SERVE_PLAIN = "import engine.ledger.log as log\nlog.PLACE_SECONDS = 1e9\n" + http.SERVE
WRITERS, SECONDS = 64, 8.0


def main(entries: int) -> int:
    """Run all four, print, and say by the exit status whether the bars are reached."""
    reached = [tree(), check(entries), asyncio.run(sequence()), over_http()]
    return 0 if all(reached) else 1


def leaves(count: int) -> Iterator[bytes]:
    """Entries of some 1.3 KB, each another one."""
    return (LEAF % number for number in range(count))


def tree() -> bool:
    """Leaves a second into the tree in tiles, their own hash included."""
    made = list(leaves(LEAVES))
    plain = min(timed(lambda: [sha256(leaf).digest() for leaf in made]) for _ in range(3))

    def grow() -> None:
        grown, size = merkle.Tiles(lambda _: None), 0
        for first in range(0, LEAVES, 256):
            size = grown.extend(size, [merkle.leaf_hash(leaf) for leaf in made[first : first + 256]])

    took = min(timed(grow) for _ in range(3))
    print(f"tree: {LEAVES / took:>12,.0f} leaves/s (bar {APPENDS_BAR:,}), {took / plain:.2f} x hashing them once")
    return LEAVES / took >= APPENDS_BAR


def check(count: int) -> bool:
    """Seconds of verify.py over an export of so many entries, in a process of its own."""
    with TemporaryDirectory(prefix="arbiter-bench-") as made:
        folder, signer = Path(made), Signer("bench.invalid/log", bytes(32))
        write_export(folder, signer, count)

        def read() -> None:
            digest = sha256()
            with (folder / "entries.jsonl").open("rb") as file:
                for line in file:
                    digest.update(line)

        baseline = timed(read)
        typed = [sys.executable, str(verify.__file__), str(folder), "--key", verifier(signer).text]
        took = timed(lambda: subprocess.run(typed, check=True, capture_output=True))
    pace = f"{took / baseline:.1f} x reading them"
    print(f"verify.py: {took:>8.1f} s for {count:,} entries (bar {VERIFY_BAR:g} a million), {pace}")
    return took / count * 1e6 <= VERIFY_BAR


def write_export(folder: Path, signer: Signer, count: int) -> None:
    """An export of a whole log, as `arbiter audit export` writes it, without views and rulebooks."""
    tree, digest = merkle.Frontier(), sha256()
    with (folder / "entries.jsonl").open("wb") as file:
        for leaf in leaves(count):
            tree.append(merkle.leaf_hash(leaf))
            file.write(leaf + b"\n")
            digest.update(leaf + b"\n")
    note = sign(Checkpoint(signer.log, count, tree.root()).text, signer)
    texts = {
        "checkpoint": note,
        "checkpoints.jsonl": json.dumps({"signed_at": "", "note": note}) + "\n",
        "tree.json": json.dumps({"first": 0, "end": count, "size": count, "left": [], "right": []}),
        "keys.json": json.dumps({"log": verifier(signer).text}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    manifest = {
        "format": 1, "tenant": None, "entries": count, "exported_at": "2026-11-29T00:00:00Z", "by": {"name": "bench"},
        "files": {"entries.jsonl": digest.hexdigest(), **{n: sha256(t.encode()).hexdigest() for n, t in texts.items()}},
    }  # fmt: skip
    data = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(data)
    text = f"arbiter export v1\n{signer.log}\n{sha256(data).hexdigest()}\n"
    (folder / "manifest.note").write_text(sign(text, signer), "utf-8")


async def sequence() -> bool:
    """Rows a second that get a place on PostgreSQL, and how long they wait for it while writers write what they can."""
    with TemporaryDirectory(prefix="arbiter-bench-") as made, servers.own("postgresql") as server:
        keys = KeyFile.create(Path(made, "keys.json"))
        db.migrate(server.url())
        ledger = await Ledger.open(server.url(), keys)
        try:
            written = await fill(ledger, 50_000)
            began = time.perf_counter()
            placed = await ledger.log.place()
            alone = placed / (time.perf_counter() - began)
            lags = await beside(ledger)
        finally:
            await ledger.close()
    rate, lag = len(lags) / SECONDS, quantiles(lags, n=100)[98]
    pace = f"{alone / written:.1f} x the writer alone"
    print(f"sequencer: {alone:>8,.0f} rows/s on PostgreSQL (bar {ROWS_BAR:,}), {pace}")
    lags_ms = f"p50 {median(lags) * 1e3:.0f} ms, p99 {lag * 1e3:.0f} ms"
    print(f"  beside a writer at {rate:,.0f} rows/s: lag {lags_ms} (bar {LAG_BAR:g} s)")
    return alone >= ROWS_BAR and lag <= LAG_BAR


async def fill(ledger: Ledger, count: int) -> float:
    """Write so many entries; how many a second that was."""
    began = time.perf_counter()
    numbers = iter(range(count))

    async def write() -> None:
        for number in numbers:
            await ledger.append(entry(number))

    await asyncio.gather(*(write() for _ in range(4 * WRITERS)))
    return count / (time.perf_counter() - began)


async def beside(ledger: Ledger) -> list[float]:
    """Seconds between the signature of a batch and its place, for each entry, while others are written."""
    end = time.perf_counter() + SECONDS
    lags: list[float] = []

    async def write(first: int) -> None:
        number = first
        while time.perf_counter() < end:
            await ledger.append(entry(number))
            number += 1

    async def place() -> None:
        known = await ledger.log.size()
        while time.perf_counter() < end:
            await ledger.log.place()
            now = time.time_ns() // 1_000
            rows = await ledger.database.read(partial(placed_from, known))
            for row in rows:
                lags.extend([(now - row.signed_at) / 1e6] * row.size)
                known += row.size
            await asyncio.sleep(0.25)

    await asyncio.gather(place(), *(write(10**6 * each) for each in range(1, WRITERS)))
    return lags


def placed_from(position: int, connection: Connection) -> Sequence[Any]:
    """Size and time of signature of the batches that have a place from `position` on."""
    query = select(db.placed.c.size, db.batch.c.signed_at).join(db.batch, db.batch.c.id == db.placed.c.batch)
    return connection.execute(query.where(db.placed.c.first >= position)).all()


def entry(number: int) -> Entry:
    """A decision with a leaf of some 1.3 KB."""
    return Entry(new_id(), "bench", "decision", f"e{number}", "transaction", number, number, LEAF % number)


def over_http() -> bool:
    """Durable verdicts a second with the log kept, beside the same without, in turns."""
    found: dict[str, list[float]] = {"without": [], "with": []}
    with ExitStack() as stack:
        load = stack.enter_context(http.generator())
        ports, keys = {}, {}
        for name, script in (("without", SERVE_PLAIN), ("with", http.SERVE)):
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="arbiter-bench-")))
            keys[name], environ = http.prepare(folder)
            ports[name] = http.free_port()
            typed = ["-c", script.format(port=ports[name])]
            stack.enter_context(http.server(typed, ports[name], "/readyz", environ))
        for turn in range(http.ROUNDS + 1):
            for name, reached in found.items():
                job = {"mode": "closed", "seconds": 2 * http.SECONDS, "seed": turn}
                result = http.ask(load, job, ports[name], keys[name])
                if turn:
                    reached.append(result["per_second"])
    ratio = median(a / b for a, b in zip(found["with"], found["without"], strict=True))
    both = " and ".join(f"{median(reached):,.0f}/s {name}" for name, reached in found.items())
    print(f"HTTP: {both} the log: {ratio:.3f} (bar {HTTP_BAR})")
    return ratio >= HTTP_BAR


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    given = sys.argv[sys.argv.index("--entries") + 1] if "--entries" in sys.argv else "1000000"
    failed = main(int(given))
    sys.exit(failed if "--check" in sys.argv else 0)
