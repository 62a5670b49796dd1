"""Durable verdicts per second over HTTP, against a FastAPI endpoint that does nothing, in the same run.

    python -m bench.http [--check]

Server on core 0, load on core 1, 64 connections, one worker, SQLite in WAL mode with synchronous=FULL, the shipped
packs, a different order in each request, each answer checked. First as fast as they can, in slices that take turns;
then both at half of what Arbiter reached, with requests due at fixed times. At the end, without a bar: as fast as it
can for so long that the index of pseudonyms, which is filled in quiet moments, has to be filled under load.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from engine.assembly import Settings, open_arbiter
from engine.ledger.sqlite import MAX_PENDING
from engine.vault import KeyFile

SERVE = """
import os
from api import Limits, serve
from engine.assembly import Settings
serve(Settings.read(os.environ), port={port}, limits=Limits(rate_per_key=10**6, burst_per_key=10**6))
"""
CONNECTIONS = 64
ROUNDS, SECONDS = 5, 2.0
OPEN_ROUNDS, OPEN_SECONDS = 3, 5.0
LONG_SECONDS = 5.0
RATIO, STRETCH = 0.25, 0.4
P99_MS = 12.0


def main() -> int:
    """Run, print, and with --check say by the exit status whether the bars are reached."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="arbiter-bench-")))
        ports = {"empty": free_port(), "arbiter": free_port()}
        stack.enter_context(server(["-m", "bench._empty", str(ports["empty"])], ports["empty"], "/openapi.json", {}))
        key, environ = prepare(folder)
        stack.enter_context(server(["-c", SERVE.format(port=ports["arbiter"])], ports["arbiter"], "/readyz", environ))
        load = stack.enter_context(generator())
        return report(closed(load, ports, key), load, ports, key)


def prepare(folder: Path) -> tuple[str, dict[str, str]]:
    """A fresh installation on SQLite: a key that may score, and the settings of its server."""
    settings = Settings(database_url=f"sqlite:///{folder / 'arbiter.db'}", key_file=folder / "keys.json")
    KeyFile.create(settings.key_file)
    environ = {"ARBITER_DATABASE_URL": settings.database_url, "ARBITER_KEY_FILE": str(settings.key_file)}
    return asyncio.run(new_key(settings)), environ


async def new_key(settings: Settings) -> str:
    """A key that may score."""
    arbiter = await open_arbiter(settings)
    try:
        return await arbiter.create_key("bench", "service", "bench", ["score"])
    finally:
        await arbiter.close()


def closed(load: subprocess.Popen[str], ports: Mapping[str, int], key: str) -> dict[str, list[dict[str, Any]]]:
    """Both as fast as they can, in turns; the first slice of each warms up and does not count."""
    results: dict[str, list[dict[str, Any]]] = {"empty": [], "arbiter": []}
    for turn in range(ROUNDS + 1):
        for name, found in results.items():
            job = {"mode": "closed", "seconds": SECONDS, "seed": turn}
            result = ask(load, job, ports[name], key)
            if turn:
                found.append(result)
    return results


def sustained(load: subprocess.Popen[str], port: int, key: str) -> float:
    """Durable verdicts per second once more entries came in a row than may wait for the index of pseudonyms."""
    given = reached = 0.0
    for seed in count(200):
        if given > MAX_PENDING * 1.1:
            break
        job = {"mode": "closed", "seconds": LONG_SECONDS, "seed": seed}
        reached = ask(load, job, port, key)["per_second"]
        given += reached * LONG_SECONDS
    return reached


def report(
    fast: dict[str, list[dict[str, Any]]], load: subprocess.Popen[str], ports: Mapping[str, int], key: str
) -> int:
    """The open loop, the table, the verdict."""
    most = {name: median(each["per_second"] for each in found) for name, found in fast.items()}
    rate = most["arbiter"] / 2
    calm: dict[str, list[dict[str, Any]]] = {"empty": [], "arbiter": []}
    for turn in range(OPEN_ROUNDS):
        for name, found in calm.items():
            job = {"mode": "open", "rate": rate, "seconds": OPEN_SECONDS, "seed": 100 + turn}
            found.append(ask(load, job, ports[name], key))
    print(f"{'':10}{'most/s':>10}{'µs each':>10}   at {rate:.0f}/s:{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}")
    for name, reached in most.items():
        p50, p99, worst = (median(each[figure] for each in calm[name]) for figure in ("p50", "p99", "max"))
        print(f"{name:10}{reached:>10.0f}{1e6 / reached:>10.0f}{p50:>21.2f}{p99:>8.2f}{worst:>8.2f}")
    ratio = most["arbiter"] / most["empty"]
    extra = median(a["p99"] - e["p99"] for a, e in zip(calm["arbiter"], calm["empty"], strict=True))
    long = sustained(load, ports["arbiter"], key)
    print(f"without a rest, with the index of pseudonyms filled under load: {long:.0f} a second")
    print(f"p99 over the empty endpoint's: {extra:.2f} ms (bar {P99_MS:g})")
    print(f"durable verdicts per second: {ratio:.3f} of the empty endpoint (bar {RATIO}, stretch {STRETCH})")
    return 0 if ratio >= RATIO and extra <= P99_MS else 1


def ask(load: subprocess.Popen[str], job: dict[str, Any], port: int, key: str) -> dict[str, Any]:
    """One job of the load generator. Every answer must be a 200."""
    assert load.stdin is not None
    assert load.stdout is not None
    job |= {"port": port, "path": "/v1/decisions", "key": key, "connections": CONNECTIONS}
    load.stdin.write(json.dumps(job) + "\n")
    load.stdin.flush()
    line = load.stdout.readline()
    assert line, "the load generator ended"
    result: dict[str, Any] = json.loads(line)
    assert set(result["statuses"]) == {"200"}, f"answers that are no verdicts: {result['statuses']}"
    return result


@contextmanager
def server(command: list[str], port: int, probe: str, environ: Mapping[str, str]) -> Iterator[None]:
    """A server in a process of its own, on core 0, until the block ends."""
    process = start(command, core=0, env=os.environ | environ, stdout=subprocess.DEVNULL)
    try:
        wait_for(process, f"http://127.0.0.1:{port}{probe}")
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def generator() -> Iterator[subprocess.Popen[str]]:
    """The load generator, on the last core."""
    pipe = subprocess.PIPE
    process = start(["-m", "bench._load"], core=(os.cpu_count() or 1) - 1, stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def start(command: list[str], core: int, **options: Any) -> subprocess.Popen[Any]:
    """A Python process that runs on one core only, where the system can do that."""
    pin = f"import os, sys; hasattr(os, 'sched_setaffinity') and os.sched_setaffinity(0, {{{core}}}); "
    pin += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return subprocess.Popen([sys.executable, "-c", pin, *command], **options)


def wait_for(process: subprocess.Popen[Any], url: str) -> None:
    """Until `url` answers 200."""
    for _ in range(600):
        assert process.poll() is None, "the server did not start"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("the server did not become ready within a minute")


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    failed = main()
    sys.exit(failed if "--check" in sys.argv else 0)
