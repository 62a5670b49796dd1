"""Sealing and opening: personal data of a subject, under keys of that subject's own.

vault = Vault(keys, TenantKeys(database, services))
await vault.ready("shop-a")
subject = vault.pseudonym("shop-a", "account", "u-1001")
cell = vault.seal("shop-a", record_id, subject, b'{"buyer.name":"..."}')
vault.open(cell)
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import VaultError
from engine.randomness import random_bytes
from engine.vault.cells import (
    FIRST,
    ID_BYTES,
    SEALED,
    Erased,
    Restricted,
    Sealed,
    SubjectKey,
    decrypt_cell,
    encrypt_cell,
    format_of,
    unwrap_subject_key,
    wrap_subject_key,
)
from engine.vault.derive import KEY_BYTES, derive_use
from engine.vault.keyfile import KeyFile
from engine.vault.names import PSEUDONYM_BYTES, Names
from engine.vault.services import FileService, Services
from engine.vault.tenants import SECONDS, TenantKeys

SEALS_PER_KEY = 2**20
"""A data key is used this often at most, far below the 2^32 random nonces AES-GCM allows (SP 800-38D §8.3)."""

KEY_SECONDS = 3_600
"""A data key seals this long at most in its process: one erased by another worker soon falls out of use."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _DataKey:
    """An open data key, and the cipher of its last use; None is the key itself, as format 1 has it.

    One object without a dict inside: tens of thousands of them are held, and Python's collector goes through all.
    """

    secret: bytes = field(repr=False)
    until: float
    key: SubjectKey | None = None
    uses: int = 0
    last: tuple[str | None, AESGCM] | None = None

    def cipher(self, use: str | None) -> AESGCM:
        last = self.last
        if last is None or last[0] != use:
            # In one piece: another thread may ask for another use meanwhile.
            last = self.last = use, AESGCM(self.secret if use is None else derive_use(self.secret, use))
        return last[1]


class Vault:
    """Seals, opens and names by pseudonym. `seal` is for the event loop, the rest for any thread.

    `capacity` bounds how many open data keys are held, each way; a subject that fell out gets one more data key.
    """

    def __init__(self, keys: KeyFile, tenants: TenantKeys, capacity: int = 20_000) -> None:
        names = Names(keys)
        self.pseudonym = names.pseudonym
        self.digest = names.digest
        self.tenants = tenants
        self.ready = tenants.ready
        self._sealing: _Recent[tuple[str, str], _DataKey] = _Recent(capacity)
        self._opening: _Recent[bytes, _DataKey] = _Recent(capacity)

    @classmethod
    def unkept(cls, keys: KeyFile, capacity: int = 20_000) -> Vault:
        """A vault for those who keep no ledger: the keys of its tenants are kept nowhere."""
        return cls(keys, TenantKeys(None, Services(FileService(keys))), capacity)

    def seal(self, tenant: str, record: str, subject: str, plaintext: bytes, table: str = SEALED) -> Sealed:
        """`plaintext` under a key of `subject` (a pseudonym), bound to this tenant, table and record.

        A new subject gets a new key. Its wrapped form travels in `Sealed.key` with every cell it seals until one
        of them is committed: whichever commit comes first stores it. Unavailable when nobody made the tenant `ready`.
        """
        held = self._sealing.get((tenant, subject))
        if held is None or held.uses >= SEALS_PER_KEY or held.until < time.monotonic():
            held = self._new_key(tenant, subject)
        held.uses += 1
        key = held.key
        assert key is not None, "made by _new_key"
        ciphertext = encrypt_cell(held.cipher(table), tenant, table, record, subject, key.id, plaintext)
        return Sealed(tenant, record, subject, key.id, ciphertext, key, table)

    def open(self, cell: Sealed) -> bytes:
        """What was sealed. Erased: its key is gone. Restricted: the law keeps it unread. VaultError: it was moved or
        altered, or nobody opens its key any more. Unavailable: the key service does not answer, which it is asked
        unless the cell is `prepare`d."""
        if cell.key is None:
            raise Erased("the key of this data was erased")
        if cell.restricted is not None:
            raise Restricted("this person was erased: what the law still keeps of them is not read")
        use = None if format_of(cell) == FIRST else cell.table
        return decrypt_cell(self._data_key(cell.key).cipher(use), cell)

    async def prepare(self, cells: Iterable[Sealed]) -> None:
        """Open the keys of these cells off the event loop, as far as a key service has to be asked for them."""
        cold = {
            (key.tenant, key.kek): key.under
            for cell in cells
            if (key := cell.key) is not None and key.under is not None and not self.tenants.at_hand(key.under)
        }
        for under in cold.values():
            await asyncio.to_thread(self.tenants.opening, under)

    def forget(self, tenant: str, subject: str, keys: Iterable[bytes] = ()) -> None:
        """Drop what this process holds of a subject's keys, those with the ids `keys` too; to be called when they are
        erased."""
        held = self._sealing.drop((tenant, subject))
        for id in (*keys, *((held.key.id,) if held is not None and held.key is not None else ())):
            self._opening.drop(id)

    def reseal(self, cell: Sealed, key: SubjectKey, secret: bytes, table: str) -> Sealed:
        """The same data under another data key and its subject (`new_key`, `lone_key`), for the use `table`. Errors as
        `open`; what is restricted can be sealed again, too."""
        text = self.open(replace(cell, restricted=None))
        cipher = AESGCM(derive_use(secret, table))
        ciphertext = encrypt_cell(cipher, cell.tenant, table, cell.record, key.subject, key.id, text)
        return replace(cell, subject=key.subject, key_id=key.id, ciphertext=ciphertext, key=key, table=table)

    def new_key(self, tenant: str, subject: str) -> tuple[SubjectKey, bytes]:
        """A new data key of a subject, wrapped, and the key itself."""
        now = time.time_ns() // 1_000
        # Ids that rise with time are added at the end of the database's tree, not at random places in it.
        return self._key(tenant, subject, now.to_bytes(8, "big") + random_bytes(8), now)

    def lone_key(self, tenant: str) -> tuple[SubjectKey, bytes]:
        """A data key for one ciphertext, which shares nothing with that of another: of a subject of its own, and
        neither its id nor its row says when it was made."""
        return self._key(tenant, random_bytes(PSEUDONYM_BYTES).hex(), random_bytes(ID_BYTES), 0)

    def _key(self, tenant: str, subject: str, id: bytes, created: int) -> tuple[SubjectKey, bytes]:
        cipher, under = self.tenants.sealing(tenant)
        secret = random_bytes(KEY_BYTES)
        wrapped = wrap_subject_key(cipher, tenant, subject, id, under.name, secret)
        return SubjectKey(tenant, subject, id, under.name, wrapped, created, under=under), secret

    def rewrap(self, key: SubjectKey) -> SubjectKey:
        """The same data key under its tenant's key of now. Errors as `open`, and as `seal` for a tenant not ready."""
        secret = self.unwrap(key)
        cipher, under = self.tenants.sealing(key.tenant)
        wrapped = wrap_subject_key(cipher, key.tenant, key.subject, key.id, under.name, secret)
        return replace(key, kek=under.name, wrapped=wrapped, under=under)

    def unwrap(self, key: SubjectKey) -> bytes:
        """The 32 bytes of a wrapped data key. VaultError and Unavailable as in `open`."""
        if key.under is not None:
            if (key.under.tenant, key.under.name) != (key.tenant, key.kek):
                raise VaultError("a wrapped key stands under the key of another tenant, or another version of it")
            return unwrap_subject_key(self.tenants.opening(key.under), key)
        kek = self.tenants.services.file.kek(key.kek)
        if kek is None:
            raise VaultError(f"neither the key file nor the table of tenant keys holds '{key.kek}'")
        return unwrap_subject_key(AESGCM(kek), key)

    def _new_key(self, tenant: str, subject: str) -> _DataKey:
        row, secret = self.new_key(tenant, subject)
        return self._sealing.put((tenant, subject), _DataKey(secret, time.monotonic() + KEY_SECONDS, row))

    def _data_key(self, key: SubjectKey) -> _DataKey:
        cached = self._opening.get(key.id)
        if cached is not None and cached.until >= time.monotonic():
            return cached
        return self._opening.put(key.id, _DataKey(self.unwrap(key), time.monotonic() + SECONDS))


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
