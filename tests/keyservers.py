"""Strict stand-ins for AWS KMS and Vault's transit engine, over HTTP, for the real clients to talk to.

    with FakeKms() as kms: ...          the JSON protocol of AWS KMS; kms.environ points boto3 at it
    with FakeTransit() as transit: ...  Vault's REST API; transit.environ points our client at it

Each does what the service it stands for documents, and refuses everything else: a wrong signature or token, another
context, a field it does not know, a key that was deleted. Both can be told to be slow, busy or gone.
"""

from __future__ import annotations

import hmac
import json
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Refused(Exception):
    """An error answer: status and body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body


class KeyServer:
    """An HTTP server on a port of its own. `busy` is how many calls from now on are throttled, `slow` how many seconds
    each takes, `calls` what was asked so far."""

    def __init__(self) -> None:
        self.busy = 0
        self.slow = 0.0
        self.calls: list[str] = []
        self._lock = Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._answer()

            def do_GET(self) -> None:
                self._answer()

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                time.sleep(outer.slow)
                try:
                    with outer._lock:
                        status, given = 200, outer.take(self.command, self.path, dict(self.headers.items()), body)
                except Refused as refused:
                    status, given = refused.status, refused.body
                data = json.dumps(given).encode()
                try:
                    self.send_response(status)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # The client had enough of waiting.

            def log_message(self, *args: Any) -> None:
                """Tests read `calls`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=lambda: self._server.serve_forever(poll_interval=0.02), daemon=True)

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """The service is away: nobody listens on its port any more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


# --------------------------------------------------------------------------------------------------- AWS KMS

REGION, ACCESS, SECRET = "eu-test-1", "AKIDEXAMPLE", "secret/example"


@dataclass
class KmsKey:
    id: str
    state: str = "Enabled"
    materials: list[bytes] = field(default_factory=lambda: [os.urandom(32)])

    @property
    def arn(self) -> str:
        return f"arn:aws:kms:{REGION}:111122223333:key/{self.id}"


class FakeKms(KeyServer):
    """AWS KMS for symmetric keys: Encrypt, Decrypt, ReEncrypt, DescribeKey. `keys` are its keys by id."""

    FIELDS: Mapping[str, frozenset[str]] = {
        "Encrypt": frozenset({"KeyId", "Plaintext", "EncryptionContext"}),
        "Decrypt": frozenset({"KeyId", "CiphertextBlob", "EncryptionContext"}),
        "ReEncrypt": frozenset(
            {"CiphertextBlob", "SourceKeyId", "SourceEncryptionContext"}
            | {"DestinationKeyId", "DestinationEncryptionContext"}
        ),
        "DescribeKey": frozenset({"KeyId"}),
    }

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, KmsKey] = {}
        self.aliases: dict[str, str] = {}
        self.secret = SECRET
        self.make("alias/arbiter")

    @property
    def environ(self) -> dict[str, str]:
        """The settings by which boto3 finds it."""
        return {
            "AWS_ENDPOINT_URL_KMS": self.address,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def make(self, alias: str) -> KmsKey:
        """A new key, which the alias means from now on."""
        key = KmsKey(f"key-{len(self.keys) + 1}")
        self.keys[key.id] = key
        self.aliases[alias] = key.id
        return key

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        named = {name.lower(): value for name, value in headers.items()}
        action = named.get("x-amz-target", "").removeprefix("TrentService.")
        self.calls.append(action)
        if method != "POST" or path != "/" or named.get("content-type") != "application/x-amz-json-1.1":
            raise Refused(400, {"__type": "SerializationException"})
        if not _signed_as(named, body, self.secret):
            raise Refused(400, {"__type": "InvalidSignatureException", "message": "the signature does not match"})
        if self.busy:
            self.busy -= 1
            raise Refused(400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
        given = json.loads(body)
        known = self.FIELDS.get(action)
        if known is None or not known >= given.keys():
            raise Refused(400, {"__type": "ValidationException", "message": f"{action}: {sorted(given)}"})
        done: dict[str, Any] = getattr(self, f"_{action.lower()}")(given)
        return done

    def _encrypt(self, given: dict[str, Any]) -> dict[str, Any]:
        key, plaintext = self._key(given["KeyId"]), b64decode(given["Plaintext"])
        if not 1 <= len(plaintext) <= 4096:
            raise Refused(400, {"__type": "ValidationException"})
        return {"KeyId": key.arn, "CiphertextBlob": self._seal(key, plaintext, given.get("EncryptionContext", {}))}

    def _decrypt(self, given: dict[str, Any]) -> dict[str, Any]:
        blob, context = b64decode(given["CiphertextBlob"]), given.get("EncryptionContext", {})
        key, plaintext = self._open(blob, given.get("KeyId"), context)
        return {"KeyId": key.arn, "Plaintext": b64encode(plaintext).decode()}

    def _reencrypt(self, given: dict[str, Any]) -> dict[str, Any]:
        blob = b64decode(given["CiphertextBlob"])
        source, plaintext = self._open(blob, given.get("SourceKeyId"), given.get("SourceEncryptionContext", {}))
        key = self._key(given["DestinationKeyId"])
        sealed = self._seal(key, plaintext, given.get("DestinationEncryptionContext", {}))
        return {"KeyId": key.arn, "SourceKeyId": source.arn, "CiphertextBlob": sealed}

    def _describekey(self, given: dict[str, Any]) -> dict[str, Any]:
        key = self._find(given["KeyId"])
        return {"KeyMetadata": {"KeyId": key.id, "Arn": key.arn, "KeyState": key.state}}

    def _find(self, name: str) -> KmsKey:
        found = self.keys.get(self.aliases.get(name, name.rpartition("/")[2]))
        if found is None:
            raise Refused(400, {"__type": "NotFoundException"})
        return found

    def _key(self, name: str) -> KmsKey:
        key = self._find(name)
        if key.state == "Disabled":
            raise Refused(400, {"__type": "DisabledException"})
        if key.state != "Enabled":  # PendingDeletion: nothing is done with it any more
            raise Refused(400, {"__type": "KMSInvalidStateException", "message": f"{key.arn} is pending deletion."})
        return key

    def _seal(self, key: KmsKey, plaintext: bytes, context: dict[str, str]) -> str:
        version, nonce = len(key.materials) - 1, os.urandom(12)
        head = f"{key.id}|{version}|".encode()
        sealed = AESGCM(key.materials[version]).encrypt(nonce, plaintext, head + _canonical(context))
        return b64encode(head + nonce + sealed).decode()

    def _open(self, blob: bytes, named: str | None, context: dict[str, str]) -> tuple[KmsKey, bytes]:
        try:
            id, version, rest = blob.split(b"|", 2)
            made_by, number = self.keys[id.decode()], int(version)
        except (ValueError, KeyError):
            raise Refused(400, {"__type": "InvalidCiphertextException"}) from None
        if named is not None and self._find(named) is not made_by:
            raise Refused(400, {"__type": "IncorrectKeyException"})
        key = self._key(made_by.id)
        head = b"|".join((id, version, b""))
        try:
            return key, AESGCM(key.materials[number]).decrypt(rest[:12], rest[12:], head + _canonical(context))
        except (InvalidTag, ValueError, IndexError):
            raise Refused(400, {"__type": "InvalidCiphertextException"}) from None


def _canonical(context: dict[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode()


def _signed_as(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether a request to POST / is signed with this secret: AWS Signature Version 4."""
    try:
        scheme, _, rest = headers["authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        access, day, region, service, end = parts["Credential"].split("/")
    except (KeyError, ValueError):
        return False
    if (scheme, access, region, service, end) != ("AWS4-HMAC-SHA256", ACCESS, REGION, "kms", "aws4_request"):
        return False
    names = parts["SignedHeaders"].split(";")
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in names]
    request = "\n".join(["POST", "/", "", *lines, "", parts["SignedHeaders"], sha256(body).hexdigest()])
    scope = f"{day}/{region}/{service}/{end}"
    to_sign = "\n".join([scheme, headers["x-amz-date"], scope, sha256(request.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, end):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.compare_digest(hmac.new(key, to_sign.encode(), "sha256").hexdigest(), parts["Signature"])


# ------------------------------------------------------------------------------------------- Vault's transit

TOKEN = "hvs.example"


@dataclass
class TransitKey:
    derived: bool = True
    versions: dict[int, bytes] = field(default_factory=lambda: {1: os.urandom(32)})
    minimum: int = 1

    @property
    def latest(self) -> int:
        return max(self.versions)


class FakeTransit(KeyServer):
    """The transit engine at `transit`: encrypt, decrypt, rewrap, and reading a key. `keys` are its keys by name."""

    FIELDS: Mapping[str, frozenset[str]] = {
        "encrypt": frozenset({"plaintext", "context"}),
        "decrypt": frozenset({"ciphertext", "context"}),
        "rewrap": frozenset({"ciphertext", "context"}),
    }

    def __init__(self) -> None:
        super().__init__()
        self.token = TOKEN
        self.sealed = False
        self.keys = {"arbiter": TransitKey(), "plain": TransitKey(derived=False)}

    @property
    def environ(self) -> dict[str, str]:
        """The settings of Vault's own clients."""
        return {"VAULT_ADDR": self.address, "VAULT_TOKEN": TOKEN}

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        named = {name.lower(): value for name, value in headers.items()}
        asked = urlsplit(path)
        assert not parse_qsl(asked.query)
        assert quote(asked.path) == asked.path
        _, v1, mount, verb, name = asked.path.split("/")
        self.calls.append(verb)
        if self.sealed:
            raise Refused(503, {"errors": ["Vault is sealed"]})
        if named.get("x-vault-token") != self.token or named.get("x-vault-request") != "true":
            raise Refused(403, {"errors": ["permission denied"]})
        if self.busy:
            self.busy -= 1
            raise Refused(429, {"errors": ['request path "transit": rate limit quota exceeded']})
        if (v1, mount) != ("v1", "transit") or method != ("GET" if verb == "keys" else "POST"):
            raise Refused(404, {"errors": [f'no handler for route "{mount}/{verb}/{name}"']})
        if verb == "keys":
            return self._read(name)
        given = json.loads(body)
        if not self.FIELDS[verb] >= given.keys():
            raise Refused(400, {"errors": [f"{verb}: {sorted(given)}"]})
        key = self.keys.get(name)
        if key is None:
            raise Refused(400, {"errors": ["encryption key not found"]})
        context = b64decode(given.get("context", ""))
        if key.derived and not context:
            raise Refused(400, {"errors": ["missing 'context' for key derivation"]})
        if verb == "encrypt":
            return {"data": self._encrypt(key, b64decode(given["plaintext"]), context)}
        plaintext = self._decrypt(key, given["ciphertext"], context)
        if verb == "rewrap":
            return {"data": self._encrypt(key, plaintext, context)}
        return {"data": {"plaintext": b64encode(plaintext).decode()}}

    def _read(self, name: str) -> dict[str, Any]:
        key = self.keys.get(name)
        if key is None:
            raise Refused(404, {"errors": []})
        return {"data": {"name": name, "derived": key.derived, "latest_version": key.latest}}

    def _encrypt(self, key: TransitKey, plaintext: bytes, context: bytes) -> dict[str, Any]:
        nonce, version = os.urandom(12), key.latest
        sealed = AESGCM(_derived(key, version, context)).encrypt(nonce, plaintext, None)
        return {"ciphertext": f"vault:v{version}:{b64encode(nonce + sealed).decode()}", "key_version": version}

    def _decrypt(self, key: TransitKey, ciphertext: str, context: bytes) -> bytes:
        try:
            prefix, version, data = ciphertext.split(":")
            number, raw = int(version.removeprefix("v")), b64decode(data, validate=True)
        except ValueError:
            raise Refused(400, {"errors": ["invalid ciphertext: no prefix"]}) from None
        if prefix != "vault" or number not in key.versions:
            raise Refused(400, {"errors": ["invalid ciphertext: version is too new"]})
        if number < key.minimum:
            raise Refused(400, {"errors": ["ciphertext or signature version is disallowed by policy (too old)"]})
        try:
            return AESGCM(_derived(key, number, context)).decrypt(raw[:12], raw[12:], None)
        except (InvalidTag, ValueError):
            raise Refused(400, {"errors": ["cipher: message authentication failed"]}) from None


def _derived(key: TransitKey, version: int, context: bytes) -> bytes:
    # A key that is not derived takes no notice of the context, as in Vault.
    return hmac.digest(key.versions[version], context, "sha256") if key.derived else key.versions[version]
