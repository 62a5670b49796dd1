"""Keyed names: pseudonyms of identities, digests of bodies, commitments to personal data. None of them can be undone
or guessed without a key of the key file (or, for a commitment, its salt)."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TypeVar

from engine.vault.derive import KEY_BYTES, Pads, derive, framed, hmac_pads, hmac_sha256
from engine.vault.keyfile import KeyFile

PSEUDONYM_BYTES = 16
_PREPARED = 65_536

K = TypeVar("K")


class Names:
    """The pseudonyms and digests of one key file. Safe to use from several threads."""

    def __init__(self, keys: KeyFile) -> None:
        self._keys = keys
        self._pseudonyms: dict[tuple[str, str], Pads] = {}
        self._digests: dict[str, Pads] = {}

    def pseudonym(self, tenant: str, namespace: str, value: str) -> str:
        """The keyed name of an identity, 32 hex digits: the same for the same value within tenant and namespace."""
        pads = self._pseudonyms.get((tenant, namespace))
        if pads is None:
            assert "|" not in namespace, namespace
            key = derive(self._keys.pseudonym_key, "pseudonym", tenant)
            pads = _prepared(self._pseudonyms, (tenant, namespace), hmac_pads(key, f"{namespace}|".encode()))
        return hmac_sha256(pads, value.encode())[:PSEUDONYM_BYTES].hex()

    def digest(self, tenant: str, event_id: str, body: bytes) -> bytes:
        """The keyed digest of an event's body, 32 bytes: it tells a retry from another body, and nothing else."""
        pads = self._digests.get(tenant)
        if pads is None:
            pads = _prepared(self._digests, tenant, hmac_pads(derive(self._keys.digest_key, "digest", tenant)))
        return hmac_sha256(pads, framed(event_id.encode(), body))


def subject_of(role: str, identity: str) -> str:
    """The pseudonym that the data of somebody in this role is sealed under, from the pseudonym of an identity.

    The role is hashed in: one phone may belong to a buyer here and a recipient there, with a key for each.
    """
    return sha256(f"{role}|{identity}".encode()).hexdigest()[: 2 * PSEUDONYM_BYTES]


def commit(salt: bytes, written: bytes) -> str:
    """The commitment to personal data that a leaf may show: HMAC-SHA-256 over its JCS bytes, hex.

    `salt` is 32 random bytes that lie inside the sealed blob: when its key is erased the commitment opens to nothing.
    """
    assert len(salt) == KEY_BYTES, "a commitment needs a salt of 32 random bytes"
    return hmac.digest(salt, written, "sha256").hex()


def _prepared(prepared: dict[K, Pads], key: K, value: Pads) -> Pads:
    # One for each tenant, and for each kind of identity in it: all are prepared anew when they are very many.
    if len(prepared) >= _PREPARED:
        prepared.clear()
    prepared[key] = value
    return value
