"""The receipt of one entry: a signed promise that its leaf is in the ledger, checkable with a public key alone.

    receipt.json()                                  the frozen format 1 (docs/receipt.md)
    verify_receipt(receipt, leaf, public_key)       True only if all of it holds

Entries committed together share one Merkle root and one Ed25519 signature; each receipt carries its own path.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine import merkle

FORMAT = 1
MAX_MERGE_DELAY_S = 60
"""A receipt whose leaf is not in a signed checkpoint this many seconds later proves an omission."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Signer:
    """Signs for one log. `key_id` names the key as C2SP signed notes do: the log's name, '+', eight hex digits."""

    def __init__(self, log: str, seed: bytes) -> None:
        self.log = log
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = key_id(log, self.public_key)

    def sign(self, body: bytes) -> bytes:
        """The Ed25519 signature (RFC 8032) of `body`, 64 bytes."""
        return self._key.sign(body)


def key_id(log: str, public_key: bytes) -> str:
    """The name of a log's key: SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key), its first four bytes (C2SP signed-note)."""
    named = b"\n\x01".join((log.encode(), public_key))
    return f"{log}+{sha256(named).digest()[:4].hex()}"


@dataclass(frozen=True)
class Batch:
    """What all receipts of one commit share. `signed_at` is in UTC microseconds."""

    log: str
    root: bytes
    size: int
    signed_at: int
    key_id: str
    signature: bytes

    @cached_property
    def shown(self) -> Mapping[str, Any]:
        """The parts of the receipt's JSON that are the same for every entry of the batch."""
        return {"root": self.root.hex(), "signed_at": stamp(self.signed_at), "signature": encoded(self.signature)}


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof for one entry: its leaf hash, its place in the batch and the path to the signed root."""

    leaf_hash: bytes
    index: int
    path: Sequence[bytes]
    batch: Batch

    def json(self) -> dict[str, Any]:
        """Receipt format 1. The same entry gives the same value for ever."""
        batch = self.batch
        shown = batch.shown
        return {
            "format": FORMAT,
            "log": batch.log,
            "leaf_hash": self.leaf_hash.hex(),
            "batch": {
                "root": shown["root"],
                "size": batch.size,
                "index": self.index,
                "path": [step.hex() for step in self.path],
            },
            "signed_at": shown["signed_at"],
            "max_merge_delay_s": MAX_MERGE_DELAY_S,
            "key_id": batch.key_id,
            "signature": shown["signature"],
        }


def sign_batch(signer: Signer, leaves: Sequence[bytes], signed_at: int) -> tuple[Batch, list[Receipt]]:
    """One signature over the tree of `leaves` (leaf hashes in order) and the receipt of each."""
    root, paths = merkle.prove(leaves)
    body = signed_text(signer.log, root.hex(), len(leaves), stamp(signed_at), MAX_MERGE_DELAY_S)
    batch = Batch(signer.log, root, len(leaves), signed_at, signer.key_id, signer.sign(body))
    return batch, [Receipt(leaf, index, paths[index], batch) for index, leaf in enumerate(leaves)]


def receipt_of(batch: Batch, leaves: bytes, index: int) -> Receipt:
    """The receipt of entry `index`, made again from the stored batch and its leaf hashes, 32 bytes each, in a row."""
    hashes = merkle.hashes(leaves)
    return Receipt(hashes[index], index, merkle.path(hashes, index), batch)


def signed_text(log: str, root: str, size: int, signed_at: str, max_merge_delay_s: int) -> bytes:
    """The exact bytes a receipt's signature covers.

    The first line can be no log's name, so the signature never passes for one under a checkpoint of the same key.
    """
    lines = ("arbiter receipt v1", log, str(size), root, signed_at, str(max_merge_delay_s))
    return ("\n".join(lines) + "\n").encode()


def verify_receipt(receipt: Mapping[str, Any], leaf: bytes, public_key: bytes) -> bool:
    """Whether `receipt` (format 1 as JSON gives it) proves that the owner of `public_key` took in `leaf`.

    False for anything else, also for a receipt of a wrong shape: it comes from outside.
    """
    try:
        batch = receipt["batch"]
        if receipt["format"] != FORMAT or receipt["key_id"] != key_id(receipt["log"], public_key):
            return False
        if type(batch["size"]) is not int or type(batch["index"]) is not int or type(receipt["format"]) is not int:
            return False
        hashed = merkle.leaf_hash(leaf)
        path = [bytes.fromhex(step) for step in batch["path"]]
        if receipt["leaf_hash"] != hashed.hex():
            return False
        if not merkle.verify_inclusion(hashed, batch["index"], batch["size"], path, bytes.fromhex(batch["root"])):
            return False
        body = signed_text(
            receipt["log"], batch["root"], batch["size"], receipt["signed_at"], receipt["max_merge_delay_s"]
        )
        signature = b64decode(receipt["signature"], validate=True)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, body)
    except (InvalidSignature, KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def stamp(microseconds: int) -> str:
    """An instant as RFC 3339 in UTC with six decimals: '2026-11-20T00:30:00.000000Z'."""
    return (_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def encoded(data: bytes) -> str:
    """`data` in base64 (RFC 4648 §4)."""
    return b64encode(data).decode()
