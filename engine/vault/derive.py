"""Keys from keys, and bytes that cannot be read two ways: HKDF (RFC 5869), HMAC (RFC 2104) and framed parts."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

KEY_BYTES = 32

Pads = tuple[Any, Any]
"""SHA-256 over the two padded keys of HMAC (RFC 2104), ready to be copied."""

_BLOCK_BYTES = 64
_INNER = int.from_bytes(b"\x36" * _BLOCK_BYTES)
_OUTER = int.from_bytes(b"\x5c" * _BLOCK_BYTES)
_PIECE = 2_047
"""From 2,048 bytes on hashlib gives up the interpreter's lock, and beside a busy thread waits long to get it back."""


_LENGTHS = tuple(size.to_bytes(4, "big") for size in range(256))
"""Ready to use, as several parts are framed for each ciphertext."""


def derive(key: bytes, purpose: str, tenant: str) -> bytes:
    """A key for one purpose and tenant out of a secret of the key file: HKDF-SHA-256."""
    info = framed(b"arbiter/v1", purpose.encode(), tenant.encode())
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def derive_use(key: bytes, use: str) -> bytes:
    """The key for one use of a data key: the expanding half of HKDF-SHA-256.

    A data key is 32 random bytes, which needs no extracting (RFC 5869 §3.3).
    """
    return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=_info(use)).derive(key)


@lru_cache(maxsize=64)
def _info(use: str) -> bytes:
    return framed(b"arbiter/use", use.encode())


def framed(*parts: bytes) -> bytes:
    """`parts` one after the other, each behind its length in four bytes, so that no two lists read the same."""
    pieces = []
    for part in parts:
        size = len(part)
        pieces.append(_LENGTHS[size] if size < len(_LENGTHS) else size.to_bytes(4, "big"))
        pieces.append(part)
    return b"".join(pieces)


def hmac_pads(key: bytes, prefix: bytes = b"") -> Pads:
    """HMAC-SHA-256 under `key`, begun with `prefix`."""
    block = int.from_bytes(key.ljust(_BLOCK_BYTES, b"\0"))
    inner = sha256((block ^ _INNER).to_bytes(_BLOCK_BYTES))
    inner.update(prefix)
    return inner, sha256((block ^ _OUTER).to_bytes(_BLOCK_BYTES))


def hmac_sha256(pads: Pads, data: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104), as `hmac.digest`, which gives up the interpreter's lock however short `data` is."""
    inner, outer = pads[0].copy(), pads[1].copy()
    if len(data) <= _PIECE:
        inner.update(data)
    else:
        for start in range(0, len(data), _PIECE):
            inner.update(data[start : start + _PIECE])
    outer.update(inner.digest())
    return bytes(outer.digest())
