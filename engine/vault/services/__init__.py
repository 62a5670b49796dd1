"""Key services: where the key above all others is kept, behind one port (`KeyService`).

service = open_service("vault-transit:transit/arbiter", keys, path, os.environ)

file            the key file itself
aws-kms         AWS KMS, over boto3
vault-transit   the transit engine of HashiCorp Vault or OpenBao, over HTTP
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.errors import SettingsError, VaultError
from engine.vault.keyfile import KeyFile
from engine.vault.services.file import FileService
from engine.vault.services.port import UNAVAILABLE, Context, KeyService, Wrapped

__all__ = [
    "FORMS",
    "SETTING",
    "UNAVAILABLE",
    "Context",
    "FileService",
    "KeyService",
    "Services",
    "Wrapped",
    "check_service",
    "open_services",
]

SETTING = "ARBITER_KEY_SERVICE"
FORMS = "write file, aws-kms:KEY (an id, ARN or alias/NAME) or vault-transit:MOUNT/KEY"


class Services:
    """The key service in force, and the key file, which opens what it wrapped before another service came."""

    def __init__(self, file: FileService, other: KeyService | None = None, before: KeyService | None = None) -> None:
        """`before` is one that is being left: it opens what it wrapped."""
        self.file = file
        self.used: KeyService = other or file
        """What wraps now."""
        self._by_name: dict[str, KeyService] = {}
        for service in (before, file, self.used):
            if service is not None:
                self._by_name[service.name] = service

    def unwrap(self, wrapped: Wrapped, context: Context) -> bytes:
        """See `KeyService`; by whichever service wrapped it. VaultError when that one is not set."""
        return self._of(wrapped).unwrap(wrapped, context)

    def move(self, wrapped: Wrapped, context: Context) -> Wrapped:
        """The same secret under the key that wraps now."""
        before = self._of(wrapped)
        if before is self.used:
            return before.rewrap(wrapped, context)
        return self.used.wrap(before.unwrap(wrapped, context), context)

    def close(self) -> None:
        """Give connections back."""
        for service in self._by_name.values():
            service.close()

    def _of(self, wrapped: Wrapped) -> KeyService:
        name = wrapped.key.partition(":")[0]
        if name not in self._by_name:
            raise VaultError(f"a key was wrapped by the key service '{name}', and {SETTING} names another one")
        return self._by_name[name]


def check_service(said: str) -> tuple[str, str]:
    """(name, key) of a setting. SettingsError for one that cannot be."""
    name, _, key = said.partition(":")
    wrong = {
        "file": bool(key),
        "aws-kms": not key,
        "vault-transit": key.count("/") < 1 or key.startswith("/") or key.endswith("/"),
    }
    if wrong.get(name, True):
        raise SettingsError(f"{SETTING} has the value '{said}', which names no key service; {FORMS}")
    return name, key


def open_services(
    said: str, keys: KeyFile, path: Path | None, environ: Mapping[str, str], before: str = "file"
) -> Services:
    """The services of an installation, and the one that it is leaving. Asks none of them yet.

    `environ` has the settings of Vault's own client.
    """
    return Services(FileService(keys, path), _service(said, environ), _service(before, environ))


def _service(said: str, environ: Mapping[str, str]) -> KeyService | None:
    """None for the key file, which is always there."""
    name, key = check_service(said)
    if name == "aws-kms":
        from engine.vault.services.aws import AwsKms

        return AwsKms(key)
    return _transit(key, environ) if name == "vault-transit" else None


def _transit(key: str, environ: Mapping[str, str]) -> KeyService:
    from engine.vault.services.transit import VaultTransit

    if not environ.get("VAULT_ADDR"):
        raise SettingsError(f"{SETTING}: vault-transit needs VAULT_ADDR, such as https://vault.example.com:8200")
    mount, _, name = key.rpartition("/")
    authority = environ.get("VAULT_CACERT")
    return VaultTransit(
        environ["VAULT_ADDR"],
        mount,
        name,
        lambda: _token(environ),
        environ.get("VAULT_NAMESPACE", ""),
        Path(authority) if authority else None,
    )


def _token(environ: Mapping[str, str]) -> str:
    """VAULT_TOKEN, or what Vault's agent or command wrote into its file, which changes when it is renewed."""
    if given := environ.get("VAULT_TOKEN"):
        return given
    try:
        return Path(environ.get("HOME", "/"), ".vault-token").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
