"""The key service of small installations and of development: the key-encryption keys of the key file."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.randomness import random_bytes
from engine.vault.derive import framed
from engine.vault.keyfile import KeyFile
from engine.vault.services.port import GONE, MOVED, Context, Wrapped, refused

_HEAD = b"\x02\x01"
_NONCE = 12


class FileService:
    """A KeyService over the key file. A key that it does not know may have come since: then it reads the file again."""

    name = "file"

    def __init__(self, keys: KeyFile, path: Path | None = None) -> None:
        self._keys = keys
        self._path = path
        self._lock = Lock()

    def current(self) -> str:
        return f"{self.name}:{self._keys.kek}"

    def wrap(self, secret: bytes, context: Context) -> Wrapped:
        kek, nonce = self._keys.kek, random_bytes(_NONCE)
        cipher = AESGCM(self._keys.keks[kek])
        return Wrapped(f"{self.name}:{kek}", _HEAD + nonce + cipher.encrypt(nonce, secret, _bound(kek, context)))

    def unwrap(self, wrapped: Wrapped, context: Context) -> bytes:
        kek, data = wrapped.key.partition(":")[2], wrapped.data
        key = self.kek(kek)
        if key is None:
            raise refused(self.name, f"{GONE} (the key file does not hold the key-encryption key '{kek}')")
        nonce, body = data[len(_HEAD) : len(_HEAD) + _NONCE], data[len(_HEAD) + _NONCE :]
        try:
            if not data.startswith(_HEAD):
                raise ValueError("format")
            return AESGCM(key).decrypt(nonce, body, _bound(kek, context))
        except (InvalidTag, ValueError):
            raise refused(self.name, MOVED) from None

    def rewrap(self, wrapped: Wrapped, context: Context) -> Wrapped:
        return self.wrap(self.unwrap(wrapped, context), context)

    def make_key(self) -> None:
        """Put a new key-encryption key into the file; it wraps from now on, and the old ones still open.

        SettingsError when the file cannot be written to.
        """
        assert self._path is not None, "keys that lie in no file do not rotate"
        with self._lock:
            self._keys = KeyFile.read(self._path).with_new_kek(self._path)

    def close(self) -> None:
        """There is nothing to give back."""

    def kek(self, name: str) -> bytes | None:
        """The key-encryption key of this name, which may have come into the file since it was read."""
        if name not in self._keys.keks and self._path is not None:
            with self._lock:
                again = KeyFile.read(self._path)
                # Another ledger's file in its place would be a mistake that must not spread.
                if again.fingerprint == self._keys.fingerprint:
                    self._keys = again
        return self._keys.keks.get(name)


def _bound(kek: str, context: Context) -> bytes:
    pairs = [part.encode() for pair in sorted(context.items()) for part in pair]
    return framed(_HEAD, b"tenant_key", kek.encode(), *pairs)
