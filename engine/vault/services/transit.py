"""The transit engine of HashiCorp Vault or OpenBao as the key service.

The key must be derived (`vault write transit/keys/arbiter derived=true`): only then does the context bind, and a key
that is not is refused. The token needs `update` on encrypt, decrypt and rewrap of the key, and `read` on the key.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from engine.errors import SettingsError
from engine.jcs import canonical
from engine.vault.services.port import (
    BUSY,
    CREDENTIALS,
    GONE,
    MOVED,
    SILENT,
    Context,
    Wrapped,
    refused,
    unavailable,
)

SECONDS = 2.0
"""For a connection, and for an answer."""
ATTEMPTS = 3
"""How often a call is tried that was throttled, or not answered."""
_PAUSE = 0.1

_BUSY = {412, 429, 472, 473, 500, 502, 503, 504}
_GONE = ("encryption key not found", "no handler for route", "disallowed by policy", "no such key")


class VaultTransit:
    """A KeyService over a transit key. `token` gives the token of now, since agents renew it."""

    name = "vault-transit"

    def __init__(
        self,
        address: str,
        mount: str,
        key: str,
        token: Callable[[], str],
        namespace: str = "",
        authority: Path | None = None,
    ) -> None:
        """SettingsError for an address that is none. `authority` holds the certificates of the server's own CA."""
        headers = {"X-Vault-Request": "true", **({"X-Vault-Namespace": namespace} if namespace else {})}
        try:
            verify: Any = True if authority is None else _trusting(authority)
            self._http = httpx.Client(base_url=address, headers=headers, timeout=SECONDS, verify=verify)
        except (httpx.InvalidURL, OSError) as error:
            raise SettingsError(f"ARBITER_KEY_SERVICE: VAULT_ADDR or VAULT_CACERT cannot be used: {error}") from None
        self._mount = mount
        self._key = key
        self._token = token
        self._derived = False

    def current(self) -> str:
        found = self._ask("GET", "keys")
        if found.get("derived") is not True:
            what = "is not derived, so that nothing would bind what it wraps; make one with derived=true"
            raise refused(self.name, f"has a key '{self._key}' that {what}")
        self._derived = True
        return self._named(int(found["latest_version"]))

    def wrap(self, secret: bytes, context: Context) -> Wrapped:
        if not self._derived:
            self.current()
        return self._wrapped(self._ask("POST", "encrypt", plaintext=b64encode(secret).decode(), **_bound(context)))

    def unwrap(self, wrapped: Wrapped, context: Context) -> bytes:
        ciphertext = wrapped.data.decode("ascii", "replace")
        given = self._ask("POST", "decrypt", ciphertext=ciphertext, **_bound(context))
        return b64decode(given["plaintext"])

    def rewrap(self, wrapped: Wrapped, context: Context) -> Wrapped:
        ciphertext = wrapped.data.decode("ascii", "replace")
        return self._wrapped(self._ask("POST", "rewrap", ciphertext=ciphertext, **_bound(context)))

    def close(self) -> None:
        self._http.close()

    def _wrapped(self, given: dict[str, Any]) -> Wrapped:
        # vault:v3:base64
        text = str(given["ciphertext"])
        return Wrapped(self._named(int(text.split(":")[1].removeprefix("v"))), text.encode())

    def _named(self, version: int) -> str:
        return f"{self.name}:{self._mount}/{self._key}/v{version}"

    def _ask(self, method: str, verb: str, **body: str) -> dict[str, Any]:
        """The `data` of the answer. What was not answered, or not now, is asked again."""
        path = f"/v1/{self._mount}/{verb}/{self._key}"
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                answer = self._http.request(method, path, json=body or None, headers={"X-Vault-Token": self._token()})
            except httpx.HTTPError as error:
                if last:
                    raise unavailable(self.name, f"{SILENT} ({type(error).__name__})") from None
            else:
                if answer.status_code not in _BUSY or last:
                    return self._understood(answer)
            time.sleep(_PAUSE * attempt)
        raise AssertionError("the last attempt returns or raises")

    def _understood(self, answer: httpx.Response) -> dict[str, Any]:
        status = answer.status_code
        if status in (401, 403):
            raise unavailable(self.name, CREDENTIALS)
        if status in _BUSY:
            raise unavailable(self.name, f"{BUSY} (status {status})")
        try:
            told = answer.json()
        except ValueError:
            raise unavailable(self.name, f"{SILENT} in JSON (status {status})") from None
        if status == 404 or (status == 400 and any(sign in str(told.get("errors")) for sign in _GONE)):
            raise refused(self.name, GONE)
        if status == 400:
            raise refused(self.name, MOVED)
        if status != 200 or not isinstance(told.get("data"), dict):
            raise unavailable(self.name, f"gives an answer that is none (status {status})")
        data: dict[str, Any] = told["data"]
        return data


def _bound(context: Context) -> dict[str, str]:
    return {"context": b64encode(canonical(dict(context))).decode()}


def _trusting(authority: Path) -> Any:
    import ssl

    return ssl.create_default_context(cafile=str(authority))
