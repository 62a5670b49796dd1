"""The real server, `arbiter serve`, in a process of its own: for tests that kill it, starve it or take its database.

    with Daemon(folder, url, key_file) as daemon:       started, ready, and gone when the block ends
        daemon.call("POST", "/v1/decisions", "score", json=...)
        daemon.kill(); daemon.start()                   a crash, and the next start on the same port and ledger

Processes are forked from one that has loaded the modules and read the shipped packs, which saves seconds at each start.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, Self

import httpx

from engine import database
from tests.books import make_ledger

ROOT = Path(__file__).parent.parent
TENANT = "shop-a"
START_SECONDS = 60
REFUSED = 1
"""The exit status of a server that may not start."""

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["api", "cli.serve", "tests.daemon", "tests.preloaded"])


class Daemon:
    """One server and its ledger. `keys` holds the secret of a key by its name in `HOLDERS`."""

    def __init__(
        self,
        folder: Path,
        url: str,
        key_file: Path,
        *,
        rules: Path = ROOT / "rules",
        policies: Path = ROOT / "policies",
        log: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.url, self.key_file = folder, url, key_file
        self.port = _free_port()
        self.log_file, self.error_file = log or folder / "log.jsonl", folder / "errors.txt"
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self._environ = {
            **(environ or {}),
            "TMPDIR": str(self.temporary),
            "ARBITER_DATABASE_URL": url,
            "ARBITER_KEY_FILE": str(key_file),
            "ARBITER_RULES": str(rules),
            "ARBITER_POLICIES": str(policies),
        }
        self._process: ForkServerProcess | None = None
        self.keys: dict[str, str] = {}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> Self:
        make_ledger(self.url)
        self.keys = asyncio.run(_make_keys(self.url))
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.kill()

    def start(self, *, ready: bool = True) -> Self:
        """Start the process; return when its windows are warm."""
        asked = (self.port, self._environ, self.log_file, self.error_file)
        self._process = _PROCESSES.Process(target=serve, args=asked)
        self._process.start()
        if ready:
            self.until_ready()
        return self

    def until_ready(self, seconds: float = START_SECONDS) -> None:
        """Return when /readyz says 200."""
        self.until(lambda: self.state() == 200, seconds)

    def state(self) -> int:
        """The status of /readyz; 0 when nobody answers."""
        assert self._process is not None
        assert self._process.exitcode is None, f"the server ended: {self.errors()[-3000:]}"
        try:
            return self.client.get("/readyz").status_code
        except httpx.TransportError:
            return 0

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Return when `condition` holds; fails when it does not within the time."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it did not come to pass: {self.errors()[-3000:]}"
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM; the exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 60) -> int:
        """The exit status, once the process has ended."""
        assert self._process is not None
        self._process.join(seconds)
        status = self._process.exitcode
        assert status is not None, f"it does not end: {self.errors()[-3000:]}"
        self._process.close()
        self._process = None
        return status

    def limit_files(self, size: int | None) -> None:
        """From now on no file of the process may grow past `size` bytes, as on a full disk; None lifts it."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY if size is None else size, -1))

    def call(self, method: str, path: str, key: str, **more: Any) -> httpx.Response:
        """One request of the holder of the key with that name."""
        headers = {"authorization": f"Bearer {self.keys[key]}", "content-type": "application/json"}
        return self.client.request(method, path, headers=headers | more.pop("headers", {}), **more)

    def log(self) -> str:
        """What it wrote to standard output so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return self.error_file.read_text() if self.error_file.exists() else ""


HOLDERS = {
    **{scope: ("service", scope) for scope in ("score", "outcome", "rules", "audit", "admin")},
    "auditor": ("service", "audit reveal"),
    "person": ("person", "rules outcome"),
}
"""Name of a key → whose it is and what it allows."""


async def _make_keys(url: str) -> dict[str, str]:
    opened = database.Database(url)
    rows, made = database.Rows(opened, database.api_key), {name: f"arb_{token_urlsafe(32)}" for name in HOLDERS}
    try:
        for name, (kind, scopes) in HOLDERS.items():
            row = {"hash": sha256(made[name].encode()).digest(), "tenant": TENANT, "name": name, "kind": kind}
            await rows.add(**row, scopes=scopes, created=time.time_ns() // 1_000, expires=None, revoked=None)
    finally:
        await opened.close()
    return made


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def serve(port: int, environ: Mapping[str, str], log: Path, errors: Path) -> None:
    """`arbiter serve`, in the process made for it. Its log is placed and signed all the time, so that whoever kills it
    hits that, too."""
    from cli import main
    from engine.ledger import log as ledger_log

    ledger_log.PLACE_SECONDS = ledger_log.PUBLISH_SECONDS = 0.1

    for name in [name for name in os.environ if name.startswith("ARBITER_")]:
        del os.environ[name]
    os.environ.update(environ)
    tempfile.tempdir = None  # it may have been asked for before the fork
    for path, standard in ((log, 1), (errors, 2)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, standard)
        os.close(handle)
    main(["serve", "--port", str(port)])
