"""The key file: the secrets of one installation that lie beside no database."""

from __future__ import annotations

import json
import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.errors import SettingsError
from engine.receipt import Signer
from engine.vault.derive import KEY_BYTES, derive

FORMAT = 1
SETTING = "ARBITER_KEY_FILE"
_FINGERPRINT_BYTES = 16
_LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9./_-]{0,127}")


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
        made = _new_kek()
        text = {
            "format": FORMAT,
            "log": log,
            "kek": made,
            "keks": {made: _text(os.urandom(KEY_BYTES))},
            **{name: _text(os.urandom(KEY_BYTES)) for name in _SECRETS},
        }
        _write(path, text)
        return cls.read(path)

    def with_new_kek(self, path: Path) -> KeyFile:
        """These keys with a new key-encryption key, which is the current one, in the file `path`.

        The file is whole at every moment. SettingsError when it cannot be written.
        """
        made = _new_kek()
        keks = {name: _text(key) for name, key in self.keks.items()} | {made: _text(os.urandom(KEY_BYTES))}
        secrets = {name: _text(getattr(self, name)) for name in _SECRETS}
        part = path.with_name(f"{path.name}.{made}")
        _write(part, {"format": FORMAT, "log": self.log, "kek": made, "keks": keks, **secrets})
        part.rename(path)
        return KeyFile.read(path)

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
        both = derive(self.pseudonym_key + self.digest_key, "fingerprint", "")
        return both[:_FINGERPRINT_BYTES].hex()


_SECRETS = ("pseudonym_key", "digest_key", "signing_seed")


def _new_kek() -> str:
    return f"kek-{os.urandom(4).hex()}"


def _write(path: Path, text: Mapping[str, Any]) -> None:
    """A new file for this user alone, on disk when this returns."""
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


class _Wrong(Exception):
    """What is wrong with a key file, in words."""


def _text(key: bytes) -> str:
    return b64encode(key).decode()


def _secret(name: str, value: object) -> bytes:
    try:
        key = b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise _Wrong(f"'{name}' must be {KEY_BYTES} bytes in base64")
    return key


def _check_log(log: object) -> None:
    if not isinstance(log, str) or not _LOG_NAME.fullmatch(log):
        raise SettingsError("'log' must be a name such as audit.example.com/decisions, without spaces or '+'")
