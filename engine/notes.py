"""Signed notes, checkpoints and cosignatures of transparency logs, as C2SP writes them.

    note = sign(checkpoint.text, signer)                     signed-note
    text, signers = open_note(note, [verifier])              who of the known signed it
    Checkpoint.read(text)                                    tlog-checkpoint: log, size, root
    note + cosign(text, witness, seconds)                    tlog-cosignature, Ed25519
    read_key("audit.example.com/log+8a5f1c02+AWZ…")          a verifier key, as people hand it on

A note is text and, below an empty line, one line for each signature. Nothing in it counts before a known key verified.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from engine.merkle import HASH_BYTES
from engine.receipt import Signer

ED25519 = 0x01
"""The type of a log's own signature."""
COSIGNATURE = 0x04
"""The type of a witness's: Ed25519 over the time and the checkpoint."""

MAX_NOTE = 100_000
"""Bytes of a note at most; C2SP asks for room for 16 signatures."""
_KEY_BYTES, _SIGNATURE_BYTES, _TIME_BYTES = 32, 64, 8
_DASH = "\u2014 "
MAX_SIZE = 2**63 - 1
"""The largest log that a database can count."""
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_NAME = re.compile(r"[^\s+]+")


class NoteError(ValueError):
    """Text that is no note, no checkpoint or no key, or one that no known key signed."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under a name: `kind` is ED25519 for a log, COSIGNATURE for a witness."""

    name: str
    kind: int
    key: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that a signature names its key by."""
        return sha256(b"".join((self.name.encode(), b"\n", bytes((self.kind,)), self.key))).digest()[:4]

    @property
    def text(self) -> str:
        """The key as C2SP writes it: name, id and key with '+' between."""
        return f"{self.name}+{self.id.hex()}+{_base64(bytes((self.kind,)) + self.key)}"

    def time_of(self, signature: bytes, text: str) -> int:
        """When `text` was signed, in seconds since 1970, 0 for a log's signature. NoteError if it was not."""
        seconds, signed = 0, text.encode()
        if self.kind == COSIGNATURE:
            if len(signature) != _TIME_BYTES + _SIGNATURE_BYTES:
                raise NoteError(f"the signature of {self.name} has a wrong length")
            seconds, signature = int.from_bytes(signature[:_TIME_BYTES]), signature[_TIME_BYTES:]
            signed = _cosigned(text, seconds)
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, signed)
        except (InvalidSignature, ValueError):
            raise NoteError(f"the signature of {self.name} does not hold") from None
        return seconds


def verifier(signer: Signer, kind: int = ED25519) -> Verifier:
    """The public side of a signer."""
    return Verifier(signer.log, kind, signer.public_key)


def read_key(text: str) -> Verifier:
    """The key that `Verifier.text` wrote. NoteError says what is wrong with it."""
    name, _, rest = text.strip().partition("+")
    named, _, encoded = rest.partition("+")
    data = _bytes(encoded)
    if not _NAME.fullmatch(name) or data is None or len(data) != 1 + _KEY_BYTES:
        raise NoteError("a key is written name+8 hex digits+base64, with an Ed25519 key of 32 bytes in it")
    if data[0] not in (ED25519, COSIGNATURE):
        raise NoteError(f"the key of {name} has the type {data[0]}; known are 1 (a log's) and 4 (a witness's)")
    found = Verifier(name, data[0], data[1:])
    if found.id.hex() != named:
        raise NoteError(f"the key of {name} does not belong to its id {named}: it was cut or altered")
    return found


@dataclass(frozen=True, slots=True)
class Signed:
    """Which known key signed a note, when (seconds since 1970; 0 for a log), and its line."""

    by: Verifier
    seconds: int
    line: str


def sign(text: str, signer: Signer) -> str:
    """`text`, which ends a line, as a note with the signature of a log."""
    return f"{text}\n{_line(verifier(signer), signer.sign(text.encode()))}"


def cosign(text: str, signer: Signer, seconds: int) -> str:
    """The line by which a witness adds its signature to the checkpoint `text`."""
    signature = seconds.to_bytes(_TIME_BYTES) + signer.sign(_cosigned(text, seconds))
    return _line(verifier(signer, COSIGNATURE), signature)


def open_note(note: str, known: Iterable[Verifier]) -> tuple[str, list[Signed]]:
    """The text of a note and who of the `known` signed it; unknown keys are passed over.

    NoteError: it is no note, no known key signed it, or the signature of one does not hold.
    """
    text, lines = split_note(note)
    keys = {(each.name, each.id): each for each in known}
    found = []
    for line in lines:
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        data = _bytes(encoded)
        if not line.startswith(_DASH) or not _NAME.fullmatch(name) or data is None or len(data) <= 4:
            raise NoteError("a signature line of the note is not one")
        by = keys.get((name, data[:4]))
        if by is not None:
            found.append(Signed(by, by.time_of(data[4:], text), line + "\n"))
    if not found:
        raise NoteError("no known key signed the note")
    return text, found


def split_note(note: str) -> tuple[str, list[str]]:
    """The text of a note with its last line end, and its signature lines without. NoteError: it is no note."""
    text, empty, rest = note.rpartition("\n\n")
    if not empty or not rest.endswith("\n") or len(note) > MAX_NOTE or any(c < " " and c != "\n" for c in note):
        raise NoteError("it is no signed note: text, an empty line, and lines of signatures")
    return text + "\n", rest[:-1].split("\n")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How many leaves a log has, and their root."""

    log: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.log}\n{self.size}\n{_base64(self.root)}\n"

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        """What a checkpoint's text says. NoteError for another text, also for one with extension lines: this log never
        writes any."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise NoteError("a checkpoint has three lines: the log, its size, its root")
        size = read_size(lines[1])
        root = _bytes(lines[2])
        if root is None or len(root) != HASH_BYTES:
            raise NoteError("the root of a checkpoint is 32 bytes in base64")
        return cls(lines[0], size, root)


PROOF = "c2sp.org/tlog-proof@v1"
"""The first line of a proof that stands for itself (C2SP tlog-proof)."""


def write_proof(index: int, path: Sequence[bytes], note: str) -> str:
    """That leaf `index` is in the tree of the checkpoint `note`."""
    return "".join(f"{line}\n" for line in (PROOF, f"index {index}", *map(_base64, path), "")) + note


def read_proof(proof: str) -> tuple[int, list[bytes], str]:
    """What `write_proof` wrote: index, path and checkpoint. NoteError for another text."""
    head, empty, note = proof.partition("\n\n")
    lines = head.split("\n")
    said, _, index = lines[1].partition(" ") if len(lines) > 1 else ("", "", "")
    if not empty or lines[0] != PROOF or said != "index":
        raise NoteError(f"a proof begins with the lines {PROOF} and index N")
    return read_size(index), read_hashes(lines[2:]), note


def write_hashes(hashes: Iterable[bytes]) -> str:
    """One hash a line, base64."""
    return "".join(f"{_base64(each)}\n" for each in hashes)


def read_hashes(lines: Iterable[str]) -> list[bytes]:
    """The hashes in lines of base64. NoteError for one that is none."""
    found = [_bytes(line) for line in lines]
    if any(each is None or len(each) != HASH_BYTES for each in found):
        raise NoteError("a line of a proof is 32 bytes in base64")
    return [each for each in found if each is not None]


def read_size(text: str) -> int:
    """A size as logs write it: decimal, without zeros in front. NoteError for another text."""
    if not _SIZE.fullmatch(text) or int(text) > MAX_SIZE:
        raise NoteError("a size is a decimal number without zeros in front, below 2^63")
    return int(text)


def _cosigned(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _line(by: Verifier, signature: bytes) -> str:
    return f"{_DASH}{by.name} {_base64(by.id + signature)}\n"


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _bytes(text: str) -> bytes | None:
    """What `text` is in base64, written as this module would; None for other text."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return None
    return data if _base64(data) == text else None
