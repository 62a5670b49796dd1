"""What lies in the tables of the vault: ciphertexts and wrapped keys, their formats, and what each is bound to.

    cell        0x02 ‖ algorithm ‖ key id (16) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
    wrapped     0x02 ‖ algorithm ‖ nonce (12) ‖ ciphertext ‖ tag (16)

The algorithm is 1, AES-256-GCM. The associated data names tenant, table, record, subject and key, each with its length,
so that a ciphertext moved elsewhere does not open. In format 1, which is still read, a cell was sealed with the data
key itself, and a data key was wrapped by a key-encryption key of the key file.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import VaultError
from engine.randomness import random_bytes
from engine.vault.derive import framed

AES_256_GCM = 1
FIRST, SECOND = 1, 2
"""Formats: without, and with a tenant key above the data keys and a derived key for each use below them."""

NONCE_BYTES = 12
ID_BYTES = 16

SEALED, RESTRICTED, DISPUTE = "sealed", "restricted", "dispute"
"""The uses of a data key: data of events and reasons, what a law keeps of erased persons, what was sent in a dispute.
Each has a key of its own derived, so what is sealed for the one never opens as the other."""

_HEADS = {number: bytes((number, AES_256_GCM)) for number in (FIRST, SECOND)}


class Erased(VaultError):
    """The key was destroyed: the data is gone on purpose, and that is not an error of the caller."""

    code = "erased"


class Restricted(VaultError):
    """The person was erased, and the law keeps this for storage and security only (PIPL Art. 47 ¶2)."""

    code = "restricted"


@dataclass(frozen=True, slots=True)
class TenantKey:
    """One version of a tenant's key, wrapped by a key service. `service` is its name, ':' and the key that wrapped it.

    Times are UTC microseconds: when it was made, and when it was wrapped last.
    """

    tenant: str
    version: int
    service: str
    wrapped: bytes
    created: int
    wrapped_at: int

    @property
    def name(self) -> str:
        """How the data keys that it wraps name it."""
        return tenant_key_name(self.version)


def tenant_key_name(version: int) -> str:
    """The name of a version. No key-encryption key of a key file has such a one."""
    return f"tenant/{version}"


@dataclass(slots=True)
class SubjectKey:
    """A data key of one subject, wrapped. `stored` turns True when its row is known to be committed.

    `kek` names what wrapped it: a version of the tenant's key, which `under` is, or (format 1) a key of the key file.
    """

    tenant: str
    subject: str
    id: bytes
    kek: str
    wrapped: bytes
    created: int
    stored: bool = False
    under: TenantKey | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """The personal data of one subject in one record. `key` is None once the subject's key was erased.

    `restricted` says until when (UTC µs) the law keeps it, of a person who was erased: it does not open.
    """

    tenant: str
    record: str
    subject: str
    key_id: bytes
    ciphertext: bytes
    key: SubjectKey | None
    table: str = SEALED
    restricted: int | None = None

    @property
    def readable(self) -> bool:
        """Whether it may be opened: its key was not erased, and no law keeps it unread."""
        return self.key is not None and self.restricted is None


def encrypt_cell(
    cipher: AESGCM, tenant: str, table: str, record: str, subject: str, key_id: bytes, text: bytes
) -> bytes:
    """A cell in format 2; `cipher` is of the key for this use."""
    nonce = random_bytes(NONCE_BYTES)
    bound = _cell_bound(SECOND, tenant, table, record, subject, key_id)
    return b"".join((_HEADS[SECOND], key_id, nonce, cipher.encrypt(nonce, text, bound)))


def format_of(cell: Sealed) -> int:
    """The format of a cell. VaultError when it is none, or names another key than its row."""
    data, key = cell.ciphertext, cell.key
    found = next((number for number, head in _HEADS.items() if data[:2] == head), None)
    if found is None or data[2 : 2 + ID_BYTES] != cell.key_id or (key is not None and key.id != cell.key_id):
        raise VaultError("a ciphertext does not name the format or the key of its row")
    return found


def decrypt_cell(cipher: AESGCM, cell: Sealed) -> bytes:
    """What is in a cell, with the cipher that is right for its format. VaultError: it was moved or altered."""
    data = cell.ciphertext
    nonce, body = data[2 + ID_BYTES : 2 + ID_BYTES + NONCE_BYTES], data[2 + ID_BYTES + NONCE_BYTES :]
    bound = _cell_bound(data[0], cell.tenant, cell.table, cell.record, cell.subject, cell.key_id)
    try:
        return cipher.decrypt(nonce, body, bound)
    except (InvalidTag, ValueError):
        raise VaultError("a ciphertext was moved or altered, or stands under another subject") from None


def wrap_subject_key(cipher: AESGCM, tenant: str, subject: str, key_id: bytes, kek: str, secret: bytes) -> bytes:
    """A data key under the tenant key that `cipher` is of, in format 2."""
    nonce = random_bytes(NONCE_BYTES)
    bound = _wrap_bound(SECOND, tenant, subject, key_id, kek)
    return b"".join((_HEADS[SECOND], nonce, cipher.encrypt(nonce, secret, bound)))


def unwrap_subject_key(cipher: AESGCM, key: SubjectKey) -> bytes:
    """The 32 bytes of a data key. VaultError: its row was moved or altered."""
    made = SECOND if key.under is not None else FIRST
    head, nonce, body = key.wrapped[:2], key.wrapped[2 : 2 + NONCE_BYTES], key.wrapped[2 + NONCE_BYTES :]
    try:
        if head != _HEADS[made]:
            raise ValueError("format")
        return cipher.decrypt(nonce, body, _wrap_bound(made, key.tenant, key.subject, key.id, key.kek))
    except (InvalidTag, ValueError):
        raise VaultError("a wrapped key was moved or altered") from None


def _cell_bound(made: int, tenant: str, table: str, record: str, subject: str, key_id: bytes) -> bytes:
    return framed(_HEADS[made], tenant.encode(), table.encode(), record.encode(), subject.encode(), key_id)


def _wrap_bound(made: int, tenant: str, subject: str, key_id: bytes, kek: str) -> bytes:
    return framed(_HEADS[made], b"subject_key", tenant.encode(), subject.encode(), key_id, kek.encode())
