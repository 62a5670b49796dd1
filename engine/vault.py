"""The vault: personal data as ciphertext, identities as pseudonyms, and the keys behind both.

    vault = Vault(KeyFile.read(Path("arbiter.keys")))
    subject = vault.pseudonym("shop-a", "account", "u-1001")
    cell = vault.seal("shop-a", record_id, subject, b'{"buyer.name":"..."}')
    vault.open(cell)

Each subject has data keys of its own, wrapped by a key-encryption key from the key file: destroy the wrapped keys and
what they sealed is gone, in backups too. Nothing here touches a database: the ledger stores what comes out.

A cell is 0x01 ‖ algorithm ‖ key id (16) ‖ nonce (12) ‖ ciphertext ‖ tag (16). Its associated data names tenant, table,
record, subject and key, each with its length, so that a ciphertext moved elsewhere does not open.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import stat
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.errors import SettingsError, VaultError
from engine.randomness import random_bytes
from engine.receipt import Signer

FORMAT = 1
AES_256_GCM = 1
_HEAD = bytes((FORMAT, AES_256_GCM))
_KEY = 32
_NONCE = 12
_ID = 16
PSEUDONYM_BYTES = 16
SETTING = "ARBITER_KEY_FILE"

SEALS_PER_KEY = 2**20
"""A data key is used this often at most, far below the 2^32 random nonces AES-GCM allows (SP 800-38D §8.3)."""

KEY_SECONDS = 3_600
"""A data key seals this long at most in its process: one erased by another worker soon falls out of use."""

_LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9./_-]{0,127}")


class Erased(VaultError):
    """The key was destroyed: the data is gone on purpose, and that is not an error of the caller."""

    code = "erased"


# -------------------------------------------------------------------------------------------- key file


@dataclass(frozen=True)
class KeyFile:
    """The secrets of one installation. Whoever holds this file and the database can read and sign everything.

    `keks` are the key-encryption keys by id, `kek` the id of the one that wraps new data keys; `log` is the name
    the ledger signs under.
    """

    log: str
    keks: Mapping[str, bytes] = field(repr=False)
    kek: str
    pseudonym_key: bytes = field(repr=False)
    digest_key: bytes = field(repr=False)
    signing_seed: bytes = field(repr=False)

    @classmethod
    def create(cls, path: Path, log: str = "arbiter.local/ledger") -> KeyFile:
        """Write new random keys to `path`, readable by this user alone. SettingsError when the file exists."""
        _check_log(log)
        made = f"kek-{os.urandom(4).hex()}"
        text = {
            "format": FORMAT,
            "log": log,
            "kek": made,
            "keks": {made: _text(os.urandom(_KEY))},
            **{name: _text(os.urandom(_KEY)) for name in _SECRETS},
        }
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise SettingsError(f"{path} exists already; keys are never overwritten: data would be lost") from None
        except OSError as error:
            raise SettingsError(f"cannot write the key file {path}: {error.strerror}") from None
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(text, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> KeyFile:
        """The keys in `path`. SettingsError says what is wrong with the file and what to do, never what is in it."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                data = file.read(1_000_001)
        except FileNotFoundError:
            raise SettingsError(
                f"{SETTING}: {path} does not exist; restore it from its backup, or make one for a new ledger"
            ) from None
        except OSError as error:
            raise SettingsError(f"{SETTING}: cannot read {path}: {error.strerror}") from None
        if mode & 0o077:
            raise SettingsError(f"{SETTING}: other users may open {path}; run: chmod 600 {path}")
        try:
            return cls._from(json.loads(data) if len(data) <= 1_000_000 else None)
        except (ValueError, _Wrong) as error:
            what = str(error) if isinstance(error, _Wrong) else "it is not JSON"
            raise SettingsError(f"{SETTING}: {path}: {what}; restore the file from its backup") from None

    @classmethod
    def _from(cls, data: Any) -> KeyFile:
        if not isinstance(data, dict):
            raise _Wrong("it is not a JSON object")
        if data.get("format") != FORMAT:
            raise _Wrong(f"its format is not {FORMAT}, the one this Arbiter reads")
        expected = {"format", "log", "kek", "keks", *_SECRETS}
        if odd := sorted(expected.symmetric_difference(data)):
            raise _Wrong(f"missing or unknown: {', '.join(odd)}")
        keks = data["keks"]
        if not isinstance(keks, dict) or not keks:
            raise _Wrong("'keks' must hold at least one key by its id")
        if data["kek"] not in keks:
            raise _Wrong("'kek' names a key that 'keks' does not hold")
        try:
            _check_log(data["log"])
        except SettingsError as error:
            raise _Wrong(str(error)) from None
        secrets = {name: _secret(name, data[name]) for name in _SECRETS}
        return cls(data["log"], {name: _secret(name, key) for name, key in keks.items()}, data["kek"], **secrets)

    @cached_property
    def signer(self) -> Signer:
        """What signs for this ledger."""
        return Signer(self.log, self.signing_seed)

    @cached_property
    def fingerprint(self) -> str:
        """Tells this file's identity keys from another's without giving them away: a ledger must keep its own."""
        both = _derive(self.pseudonym_key + self.digest_key, "fingerprint", "")
        return both[:PSEUDONYM_BYTES].hex()


_SECRETS = ("pseudonym_key", "digest_key", "signing_seed")


class _Wrong(Exception):
    """What is wrong with a key file, in words."""


def _text(key: bytes) -> str:
    return b64encode(key).decode()


def _secret(name: str, value: object) -> bytes:
    try:
        key = b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        key = b""
    if len(key) != _KEY:
        raise _Wrong(f"'{name}' must be {_KEY} bytes in base64")
    return key


def _check_log(log: object) -> None:
    if not isinstance(log, str) or not _LOG_NAME.fullmatch(log):
        raise SettingsError("'log' must be a name such as audit.example.com/decisions, without spaces or '+'")


# ----------------------------------------------------------------------------------------------- cells


@dataclass(slots=True)
class SubjectKey:
    """A data key of one subject, wrapped. `stored` turns True when its row is known to be committed."""

    tenant: str
    subject: str
    id: bytes
    kek: str
    wrapped: bytes
    created: int
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Sealed:
    """The personal data of one subject in one record. `key` is None once the subject's key was erased."""

    tenant: str
    record: str
    subject: str
    key_id: bytes
    ciphertext: bytes
    key: SubjectKey | None
    table: str = "sealed"


@dataclass(slots=True)
class _Sealing:
    """A data key at work in this process."""

    key: SubjectKey
    cipher: AESGCM
    until: float
    uses: int = 0


class Vault:
    """Seals, opens and names by pseudonym. Safe to use from several threads.

    `capacity` bounds how many unwrapped keys are held, each way; a subject that fell out gets one more data key.
    """

    def __init__(self, keys: KeyFile, capacity: int = 20_000) -> None:
        self._keys = keys
        self._keks = {name: AESGCM(key) for name, key in keys.keks.items()}
        self._sealing: _Recent[tuple[str, str], _Sealing] = _Recent(capacity)
        self._opening: _Recent[bytes, AESGCM] = _Recent(capacity)
        self._pseudonyms: dict[tuple[str, str], _Pads] = {}
        self._digests: dict[str, _Pads] = {}

    def pseudonym(self, tenant: str, namespace: str, value: str) -> str:
        """The keyed name of an identity, 32 hex digits: the same for the same value within tenant and namespace."""
        pads = self._pseudonyms.get((tenant, namespace))
        if pads is None:
            assert "|" not in namespace, namespace
            key = _derive(self._keys.pseudonym_key, "pseudonym", tenant)
            pads = _prepared(self._pseudonyms, (tenant, namespace), _hmac_pads(key, f"{namespace}|".encode()))
        return _hmac(pads, value.encode())[:PSEUDONYM_BYTES].hex()

    def digest(self, tenant: str, event_id: str, body: bytes) -> bytes:
        """The keyed digest of an event's body, 32 bytes: it tells a retry from another body, and nothing else."""
        pads = self._digests.get(tenant)
        if pads is None:
            pads = _prepared(self._digests, tenant, _hmac_pads(_derive(self._keys.digest_key, "digest", tenant)))
        return _hmac(pads, _framed(event_id.encode(), body))

    def seal(self, tenant: str, record: str, subject: str, plaintext: bytes, table: str = "sealed") -> Sealed:
        """`plaintext` under a key of `subject` (a pseudonym), bound to this tenant, table and record.

        A new subject gets a new key. Its wrapped form travels in `Sealed.key` with every cell it seals until one
        of them is committed: whichever commit comes first stores it.
        """
        held = self._sealing.get((tenant, subject))
        if held is None or held.uses >= SEALS_PER_KEY or held.until < time.monotonic():
            held = self._new_key(tenant, subject)
        held.uses += 1
        key = held.key
        nonce = random_bytes(_NONCE)
        bound = _bound(tenant, table, record, subject, key.id)
        ciphertext = b"".join((_HEAD, key.id, nonce, held.cipher.encrypt(nonce, plaintext, bound)))
        return Sealed(tenant, record, subject, key.id, ciphertext, key, table)

    def open(self, cell: Sealed) -> bytes:
        """What was sealed. Erased: its key is gone. VaultError: it was moved or altered, or its KEK is unknown."""
        key, data = cell.key, cell.ciphertext
        if key is None:
            raise Erased("the key of this data was erased")
        if data[:2] != _HEAD or data[2 : 2 + _ID] != cell.key_id or key.id != cell.key_id:
            raise VaultError("a ciphertext does not name the format or the key of its row")
        nonce, body = data[2 + _ID : 2 + _ID + _NONCE], data[2 + _ID + _NONCE :]
        bound = _bound(cell.tenant, cell.table, cell.record, cell.subject, cell.key_id)
        try:
            return self._cipher(key).decrypt(nonce, body, bound)
        except (InvalidTag, ValueError):
            raise VaultError("a ciphertext was moved or altered, or stands under another subject") from None

    def forget(self, tenant: str, subject: str) -> None:
        """Drop what this process holds of a subject's keys; to be called when they are erased."""
        held = self._sealing.drop((tenant, subject))
        if held is not None:
            self._opening.drop(held.key.id)

    def _new_key(self, tenant: str, subject: str) -> _Sealing:
        secret, nonce, kek = random_bytes(_KEY), random_bytes(_NONCE), self._keys.kek
        # Ids that rise with time are added at the end of the database's tree, not at random places in it.
        key_id = (time.time_ns() // 1_000).to_bytes(8, "big") + random_bytes(8)
        wrapped = self._keks[kek].encrypt(nonce, secret, _wrap_bound(tenant, subject, key_id, kek))
        row = SubjectKey(tenant, subject, key_id, kek, _HEAD + nonce + wrapped, time.time_ns() // 1_000)
        return self._sealing.put((tenant, subject), _Sealing(row, AESGCM(secret), time.monotonic() + KEY_SECONDS))

    def _cipher(self, key: SubjectKey) -> AESGCM:
        cached = self._opening.get(key.id)
        if cached is not None:
            return cached
        kek = self._keks.get(key.kek)
        if kek is None:
            raise VaultError(f"the key file does not hold the key-encryption key '{key.kek}'")
        head, nonce, body = key.wrapped[:2], key.wrapped[2 : 2 + _NONCE], key.wrapped[2 + _NONCE :]
        try:
            if head != _HEAD:
                raise ValueError("format")
            secret = kek.decrypt(nonce, body, _wrap_bound(key.tenant, key.subject, key.id, key.kek))
        except (InvalidTag, ValueError):
            raise VaultError("a wrapped key was moved or altered") from None
        return self._opening.put(key.id, AESGCM(secret))


def commit(salt: bytes, written: bytes) -> str:
    """The commitment to personal data that a leaf may show: HMAC-SHA-256 over its JCS bytes, hex.

    `salt` is 32 random bytes that lie inside the sealed blob: when its key is erased the commitment opens to nothing.
    """
    assert len(salt) == _KEY, "a commitment needs a salt of 32 random bytes"
    return hmac.digest(salt, written, "sha256").hex()


def _derive(key: bytes, purpose: str, tenant: str) -> bytes:
    """A key for one purpose and tenant: HKDF-SHA-256 (RFC 5869)."""
    info = _framed(b"arbiter/v1", purpose.encode(), tenant.encode())
    return HKDF(algorithm=SHA256(), length=_KEY, salt=None, info=info).derive(key)


def _framed(*parts: bytes) -> bytes:
    """`parts` one after the other, each behind its length in four bytes, so that no two lists read the same."""
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(4, "big"), part)])


def _bound(tenant: str, table: str, record: str, subject: str, key_id: bytes) -> bytes:
    return _framed(_HEAD, tenant.encode(), table.encode(), record.encode(), subject.encode(), key_id)


def _wrap_bound(tenant: str, subject: str, key_id: bytes, kek: str) -> bytes:
    return _framed(_HEAD, b"subject_key", tenant.encode(), subject.encode(), key_id, kek.encode())


_Pads = tuple[Any, Any]
"""SHA-256 over the two padded keys of HMAC (RFC 2104), ready to be copied."""

_BLOCK_BYTES = 64
_INNER = int.from_bytes(b"\x36" * _BLOCK_BYTES)
_OUTER = int.from_bytes(b"\x5c" * _BLOCK_BYTES)
_PREPARED = 65_536
_PIECE = 2_047
"""From 2,048 bytes on hashlib gives up the interpreter's lock, and beside a busy thread waits long to get it back."""


def _hmac_pads(key: bytes, prefix: bytes = b"") -> _Pads:
    block = int.from_bytes(key.ljust(_BLOCK_BYTES, b"\0"))
    inner = sha256((block ^ _INNER).to_bytes(_BLOCK_BYTES))
    inner.update(prefix)
    return inner, sha256((block ^ _OUTER).to_bytes(_BLOCK_BYTES))


def _hmac(pads: _Pads, data: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104), as `hmac.digest`, which gives up the interpreter's lock however short `data` is."""
    inner, outer = pads[0].copy(), pads[1].copy()
    if len(data) <= _PIECE:
        inner.update(data)
    else:
        for start in range(0, len(data), _PIECE):
            inner.update(data[start : start + _PIECE])
    outer.update(inner.digest())
    return bytes(outer.digest())


K = TypeVar("K")
V = TypeVar("V")


def _prepared(prepared: dict[K, V], key: K, value: V) -> V:
    # One for each tenant, and for each kind of identity in it: all are prepared anew when they are very many.
    if len(prepared) >= _PREPARED:
        prepared.clear()
    prepared[key] = value
    return value


class _Recent(Generic[K, V]):
    """The most recently used values, at most `capacity`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            value = self._held.get(key)
            if value is not None:
                self._held.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> V:
        with self._lock:
            self._held[key] = value
            if len(self._held) > self._capacity:
                self._held.popitem(last=False)
            return value

    def drop(self, key: K) -> V | None:
        with self._lock:
            return self._held.pop(key, None)
