"""Who outside sees what the log signs: witnesses, timestamps, and a folder that only grows.

    anchors = Anchors(ledger.log, [WitnessAnchor(key, url), FolderAnchor(path)], clock)
    anchors.keep()                            shows each of them what was signed, until cancelled
    await anchors.open_since()                since when nobody outside has seen the log

Who holds the log's key can write it anew and sign it. Only what somebody else has seen before stops him: so what was
signed since the last anchor rests on the log's word alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from engine import merkle
from engine.errors import LogBroken, SettingsError, Unavailable
from engine.ledger import Log, Published
from engine.ledger.sequencing import WITNESS
from engine.notes import COSIGNATURE, Checkpoint, NoteError, Verifier, open_note, read_key, split_note, write_hashes

LOOK_SECONDS = 1.0
"""How often it is looked for a checkpoint that was not shown yet."""
RETRY_SECONDS = 30
"""After so long one that did not answer is asked again."""
CALL_SECONDS = 10
"""How long an answer may take."""
TIMESTAMP_SECONDS = 3_600.0
"""How often a timestamp is asked for: authorities count."""

_log = logging.getLogger(__name__)


class NotAnchored(Exception):
    """It was not seen, and why. A log must go on meanwhile."""


class Anchor(Protocol):
    """Somebody outside. `kind` is witness, timestamp or folder; `every` is how many seconds lie between two looks."""

    name: str
    kind: str
    every: float

    async def see(self, published: Published, log: Log) -> bytes:
        """Show it a checkpoint; what it gives to prove that it saw it. NotAnchored when it does not."""


class WitnessAnchor:
    """A witness that speaks C2SP tlog-witness, such as `arbiter witness serve`."""

    kind = WITNESS
    every = 0.0

    def __init__(self, key: Verifier, url: str) -> None:
        self.name = key.name
        self._key = key
        self._url = url.rstrip("/")
        self._known = 0
        """How many entries it signed last, as far as we know."""

    async def see(self, published: Published, log: Log) -> bytes:
        """The line with its signature."""
        if self._known > published.checkpoint.size:
            self._known = 0  # This log is shorter than it was: let it say so.
        # It says where it stands when we are wrong; twice, as another process may show it something in between.
        for _ in range(3):
            status, answer = await self._ask(published, log)
            if status != 409 or not answer.strip().isdigit():
                break
            known = int(answer)
            if known > published.checkpoint.size:
                raise NotAnchored(f"it signed {known} entries already, more than the {published.checkpoint.size} here")
            if known == self._known:
                raise NotAnchored(f"it signed another root of {known} entries: this log has two histories")
            self._known = known
        if status != 200:
            raise NotAnchored(f"it answers {status}: {answer.strip()[:200]}")
        text = published.note.partition("\n\n")[0] + "\n"
        try:
            signed = open_note(f"{text}\n{answer}", [self._key])[1]
        except NoteError as error:
            raise NotAnchored(f"its answer is not its signature: {error}") from None
        self._known = published.checkpoint.size
        return signed[0].line.encode()

    async def _ask(self, published: Published, log: Log) -> tuple[int, str]:
        new = published.checkpoint.size
        proof = await log.consistency(self._known, new) if 0 < self._known < new else []
        body = f"old {self._known}\n{write_hashes(proof)}\n{published.note}"
        status, answer = await _post(f"{self._url}/add-checkpoint", body.encode(), "text/plain; charset=utf-8")
        return status, answer.decode(errors="replace")


async def _post(url: str, body: bytes, kind: str) -> tuple[int, bytes]:
    """Status and body of the answer. NotAnchored when there is none."""
    import httpx  # a server without anchors has no use for it

    try:
        async with httpx.AsyncClient(timeout=CALL_SECONDS) as client:
            answer = await client.post(url, content=body, headers={"content-type": kind})
    except httpx.HTTPError as error:
        raise NotAnchored(f"it does not answer: {type(error).__name__}") from None
    return answer.status_code, answer.content


class FolderAnchor:
    """A folder in which files are made and never changed, such as a mounted bucket with object lock."""

    kind = "folder"
    every = 0.0

    def __init__(self, folder: Path) -> None:
        self.name = f"folder {folder.name}"
        self._folder = folder

    async def see(self, published: Published, log: Log) -> bytes:
        """The file's name. NotAnchored when the folder holds a checkpoint that this log does not go on from."""
        held = await asyncio.to_thread(self._largest, published.checkpoint.log)
        new = published.checkpoint
        if held is not None and held.size > new.size:
            raise NotAnchored(f"it holds a checkpoint of {held.size} entries, more than the {new.size} here")
        if held is not None and 0 < held.size < new.size:
            proof = await log.consistency(held.size, new.size)
            if not merkle.verify_consistency(held.size, new.size, proof, held.root, new.root):
                raise NotAnchored(f"it holds {held.size} entries that these do not go on from: two histories")
        return await asyncio.to_thread(self._write, published)

    def _largest(self, log: str) -> Checkpoint | None:
        try:
            names = sorted(self._folder.glob(f"{log.replace('/', '_')}-*.checkpoint"))
            return Checkpoint.read(split_note(names[-1].read_text("utf-8"))[0]) if names else None
        except (OSError, NoteError, UnicodeDecodeError) as error:
            raise NotAnchored(f"its last checkpoint cannot be read: {error}") from None

    def _write(self, published: Published) -> bytes:
        name = f"{published.checkpoint.log.replace('/', '_')}-{published.checkpoint.size:020}.checkpoint"
        path, data = self._folder / name, published.note.encode()
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        except FileExistsError:
            held = path.read_bytes()
            if held.partition(b"\n\n")[0] != data.partition(b"\n\n")[0]:
                raise NotAnchored(f"{path} holds another checkpoint of this size: this log has two histories") from None
            return name.encode()
        except OSError as error:
            raise NotAnchored(f"cannot write {path}: {error.strerror}") from None
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return name.encode()


class TimestampAnchor:
    """A timestamping authority (RFC 3161): that a checkpoint existed at a time, in its word."""

    kind = "timestamp"
    every = TIMESTAMP_SECONDS

    def __init__(self, url: str, roots: Path) -> None:
        """`roots` are the certificates, as PEM, that the authority's must lead to."""
        from cryptography import x509

        self.name = f"timestamp {urlsplit(url).hostname}"
        self._url = url
        try:
            self._roots = x509.load_pem_x509_certificates(roots.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingsError(f"ARBITER_TIMESTAMP_ROOTS: {roots} holds no certificates: {error}") from None

    async def see(self, published: Published, log: Log) -> bytes:
        """The authority's response, as DER."""
        from rfc3161_client import (
            TimestampRequestBuilder,
            VerificationError,
            VerifierBuilder,
            decode_timestamp_response,
        )

        del log
        message = published.note.partition("\n\n")[0].encode() + b"\n"
        request = TimestampRequestBuilder().data(message).nonce(nonce=True).cert_request(cert_request=True).build()
        status, answer = await _post(self._url, request.as_bytes(), "application/timestamp-query")
        if status != 200:
            raise NotAnchored(f"it answers {status}")
        try:
            made = VerifierBuilder.from_request(request)
            for root in self._roots:
                made = made.add_root_certificate(root)
            made.build().verify_message(decode_timestamp_response(answer), message)
        except (VerificationError, ValueError) as error:
            raise NotAnchored(f"its answer does not hold: {error}") from None
        return answer


class Anchors:
    """Shows each anchor what was signed last, in its own time, and keeps what it gave."""

    def __init__(self, log: Log, anchors: Sequence[Anchor], clock: Callable[[], int]) -> None:
        self._log = log
        self.all = anchors
        self._clock = clock
        self.problems: dict[str, str] = {}
        """Anchor → why it has not seen what was signed last."""

    async def keep(self) -> None:
        """Show them what is signed, for ever."""
        await asyncio.gather(*map(self._keep, self.all))

    async def _keep(self, anchor: Anchor) -> None:
        while True:
            try:
                seen = await self.show(anchor)
            except (NotAnchored, Unavailable, LogBroken) as error:
                why = str(error)
            except Exception as error:  # noqa: BLE001 - a task that ended would show it nothing more, without a word
                why = f"it cannot be shown the log: {type(error).__name__}"
            else:
                self.problems.pop(anchor.name, None)
                await asyncio.sleep(max(LOOK_SECONDS, anchor.every if seen else 0))
                continue
            if self.problems.get(anchor.name) != why:
                _log.warning("%s has not seen what the log signed: %s", anchor.name, why)
            self.problems[anchor.name] = why
            await asyncio.sleep(RETRY_SECONDS)

    async def show(self, anchor: Anchor) -> bool:
        """Show it the checkpoint that was signed last, unless it saw it; whether it did."""
        published = await self._log.latest()
        if published is None or anchor.name in await self._log.seen_by(published.checkpoint.size):
            return False
        proof = await anchor.see(published, self._log)
        await self._log.keep_anchor(published.checkpoint.size, anchor.name, anchor.kind, self._clock(), proof)
        return True


def witnesses(text: str) -> list[WitnessAnchor]:
    """The witnesses that a setting names: key and address with a blank between, several with commas between.

    SettingsError for one that is none."""
    found = []
    for each in text.split(","):
        key, _, url = each.strip().partition(" ")
        try:
            known = read_key(key)
        except NoteError as error:
            raise SettingsError(f"ARBITER_WITNESSES: {error}") from None
        if known.kind != COSIGNATURE:
            raise SettingsError(f"ARBITER_WITNESSES: the key of {known.name} is a log's, not a witness's")
        if not url.strip().startswith(("http://", "https://")):
            raise SettingsError(f"ARBITER_WITNESSES: after the key of {known.name} its address is missing (https://…)")
        found.append(WitnessAnchor(known, url.strip()))
    return found
