"""A witness: signs what a log signed, if it goes on from all that this witness signed before (C2SP tlog-witness).

    signer = create(Path("witness.json"), Path("witness.db"), "witness.example.org/w1")       once
    witness = Witness(signer, Path("witness.db"), [read_key("audit.example.com/decisions+…")])
    lines = witness.add(request)              its signature, to stand below the checkpoint's own
    witness.latest("audit.example.com/decisions")     what an auditor holds an export against

It runs elsewhere than the log, with its own key and its own small state. Whoever rewrites a log and signs it anew
cannot get the signature of a witness that saw the log before.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from engine import merkle
from engine.errors import ArbiterError, SettingsError
from engine.notes import (
    Checkpoint,
    NoteError,
    Verifier,
    cosign,
    open_note,
    read_hashes,
    read_size,
    split_note,
)
from engine.receipt import Signer

FORMAT = 1
MAX_STEPS = 63
"""Hashes of a consistency proof at most (C2SP tlog-witness)."""
SIZE_TYPE = "text/x.tlog.size"
_SEED = 32

_TABLES = """
CREATE TABLE seen
    (log TEXT, size INTEGER, root BLOB, note TEXT, at INTEGER, PRIMARY KEY (log, size)) STRICT;
CREATE TABLE whose (key TEXT NOT NULL) STRICT;
CREATE TABLE refused
    (log TEXT, size INTEGER, root BLOB, at INTEGER, why TEXT, request TEXT, PRIMARY KEY (log, size, root)) STRICT;
"""


class Refused(ArbiterError):
    """Why a checkpoint gets no signature: an HTTP status, and for 409 the size that this witness signed last."""

    code = "not_witnessed"

    def __init__(self, status: int, why: str, size: int | None = None) -> None:
        self.status = status
        self.size = size
        super().__init__(why)


class Witness:
    """The logs it watches, and what it signed of each. `state` is a SQLite file that must never be lost or rolled back:
    a witness whose state is gone is given up, not started anew under its old key. SettingsError when it is gone."""

    def __init__(self, signer: Signer, state: Path, logs: Iterable[Verifier], clock: Callable[[], int]) -> None:
        self._signer = signer
        self._logs = {log.name: log for log in logs}
        self._state = state
        self._clock = clock
        if not state.is_file():  # Else it would sign whatever it is shown first, against what it signed before.
            raise SettingsError(
                f"there is no state of a witness at {state}; one whose state is lost is given up: make a new one, with "
                "another name: arbiter witness init"
            )
        with closing(self._open()) as connection:
            try:
                whose = connection.execute("SELECT key FROM whose").fetchone()
            except sqlite3.DatabaseError:
                whose = None
        if whose != (signer.key_id,):  # Nor with what another key signed, which says nothing of what this one did.
            raise SettingsError(f"{state} is not the state of the witness {signer.key_id}")

    def add(self, request: str) -> str:
        """The signature lines for the checkpoint in an add-checkpoint request. Refused says why there are none."""
        old, steps, note = _parsed(request)
        log = self._log(note)
        checkpoint = _signed(note, log)
        if old > checkpoint.size:
            raise Refused(400, f"the old size {old} is above the checkpoint's {checkpoint.size}")
        with closing(self._open()) as connection:
            # From here on no other request can look at the state, or change it.
            connection.execute("BEGIN IMMEDIATE")
            last = self._last(connection, log.name)
            known = last.size if last else 0
            if old != known:
                raise Refused(409, f"this witness signed {known} entries last, not {old}", known)
            try:
                _check(last, checkpoint, steps)
            except Refused as refused:
                # Signed by the log, and not shown to go on. Another root of the same size is evidence against it; else
                # whoever asked may only have had no proof. Once for each: who has no key of the log can add none.
                kept = (log.name, checkpoint.size, checkpoint.root, self._clock() // 1_000_000, str(refused), request)
                connection.execute("INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?, ?, ?)", kept)
                connection.execute("COMMIT")
                raise
            seconds = self._clock() // 1_000_000
            line = cosign(checkpoint.text, self._signer, seconds)
            row = (log.name, checkpoint.size, checkpoint.root, note + line, seconds)
            connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")  # on disk before anybody has the signature
        return line

    def latest(self, log: str) -> str | None:
        """The note of the checkpoint that was signed last, with this witness's line; None while there is none."""
        with closing(self._open()) as connection:
            row = connection.execute(
                "SELECT note FROM seen WHERE log = ? ORDER BY size DESC LIMIT 1", (log,)
            ).fetchone()
        return row[0] if row else None

    def refusals(self) -> list[tuple[str, int, str, str]]:
        """What a log signed and nobody showed to go on: log, seconds since 1970, why, and the request."""
        with closing(self._open()) as connection:
            return connection.execute("SELECT log, at, why, request FROM refused ORDER BY at").fetchall()

    def _log(self, note: str) -> Verifier:
        name = note.partition("\n")[0]
        if name not in self._logs:
            raise Refused(404, "this witness does not watch this log")
        return self._logs[name]

    def _last(self, connection: sqlite3.Connection, log: str) -> Checkpoint | None:
        row = connection.execute(
            "SELECT size, root FROM seen WHERE log = ? ORDER BY size DESC LIMIT 1", (log,)
        ).fetchone()
        return Checkpoint(log, *row) if row else None

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._state.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=10
        )
        # With the folder too: else a journal that was removed may be there again after a loss of power, and undo it.
        connection.execute("PRAGMA synchronous = EXTRA")
        return connection


def _parsed(request: str) -> tuple[int, list[bytes], str]:
    """The old size, the proof and the checkpoint of a request."""
    head, empty, note = request.partition("\n\n")
    lines = head.split("\n")
    word, _, size = lines[0].partition(" ")
    try:
        if not empty or word != "old":
            raise NoteError("a request is 'old' and a size, lines of a proof, an empty line and a checkpoint")
        if len(lines) > 1 + MAX_STEPS:
            raise NoteError(f"a proof has {MAX_STEPS} lines at most")
        old, steps = read_size(size), read_hashes(lines[1:])
        split_note(note)
    except NoteError as error:
        raise Refused(400, str(error)) from None
    return old, steps, note


def _signed(note: str, log: Verifier) -> Checkpoint:
    try:
        return Checkpoint.read(open_note(note, [log])[0])
    except NoteError as error:
        raise Refused(403, f"the log's key did not sign this: {error}") from None


def _check(last: Checkpoint | None, new: Checkpoint, steps: list[bytes]) -> None:
    """That `new` goes on from `last`."""
    if last is None:
        if steps or (new.size == 0 and new.root != merkle.EMPTY_ROOT):
            raise Refused(422, "the first checkpoint needs no proof")
    elif new.size == last.size:
        if new.root != last.root:
            raise Refused(409, f"another root of the same {last.size} entries was signed before", last.size)
        if steps:
            raise Refused(422, "the same size needs no proof")
    elif last.size == 0:
        if steps:
            raise Refused(422, "from nothing there is no proof")
    elif not merkle.verify_consistency(last.size, new.size, steps, last.root, new.root):
        raise Refused(422, f"{new.size} entries do not go on from the {last.size} that were signed before")


def create(key: Path, state: Path, name: str) -> Signer:
    """A new witness: its key, and the state in which nothing was signed yet, in files that this user alone can read.
    SettingsError when one of them exists."""
    if key.exists():  # Before the state is made.
        raise SettingsError(f"{key} exists already; a witness keeps its key and its state")
    seed = os.urandom(_SEED)
    signer = Signer(name, seed)
    create_state(state, signer.key_id)
    with os.fdopen(_new(key), "w", encoding="ascii") as file:
        json.dump({"format": FORMAT, "witness": name, "seed": seed.hex()}, file)
        file.flush()
        os.fsync(file.fileno())
    return signer


def create_state(path: Path, key_id: str) -> None:
    """The state of the witness with this key, which signed nothing yet. SettingsError when the file exists."""
    os.close(_new(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.executescript(_TABLES)
        connection.execute("INSERT INTO whose VALUES (?)", (key_id,))


def _new(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SettingsError(f"{path} exists already; a witness keeps its key and its state") from None
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from None


def read_signer(path: Path) -> Signer:
    """The key in `path`. SettingsError says what is wrong with the file, never what is in it."""
    try:
        told = json.loads(path.read_text("ascii"))
        seed = bytes.fromhex(told["seed"])
        if told["format"] != FORMAT or len(seed) != _SEED or not isinstance(told["witness"], str):
            raise ValueError
    except OSError as error:
        raise SettingsError(f"cannot read the witness's key {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{path} is no key of a witness; restore it, or make one: arbiter witness init") from None
    return Signer(told["witness"], seed)
