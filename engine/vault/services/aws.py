"""AWS KMS as the key service: a symmetric key (SYMMETRIC_DEFAULT) with an encryption context.

boto3 takes region, credentials and endpoint from its own settings (AWS_REGION, AWS_ENDPOINT_URL_KMS, …). The role needs
kms:Encrypt, kms:Decrypt, kms:ReEncryptFrom, kms:ReEncryptTo and kms:DescribeKey on the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from engine.errors import SettingsError
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

T = TypeVar("T")

SECONDS = 2
"""For a connection, and for an answer."""
ATTEMPTS = 3
"""How often a call is tried that was throttled, or not answered."""

_MOVED = {"InvalidCiphertextException", "IncorrectKeyException"}
_GONE = {"KMSInvalidStateException", "DisabledException", "NotFoundException", "InvalidKeyUsageException"}
_CREDENTIALS = {
    *("AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "InvalidClientTokenId"),
    *("ExpiredTokenException", "IncompleteSignatureException", "MissingAuthenticationTokenException"),
    *("SignatureDoesNotMatch", "NotAuthorizedException"),
}


class AwsKms:
    """A KeyService over the key with this id, ARN or alias. Safe to use from several threads, as its client is."""

    name = "aws-kms"

    def __init__(self, key: str) -> None:
        """SettingsError when boto3 is not installed, or does not know a region."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise SettingsError(
                "ARBITER_KEY_SERVICE: aws-kms needs boto3: install requirements/aws.txt, or arbiter[aws]"
            ) from None
        retries = {"total_max_attempts": ATTEMPTS, "mode": "standard"}
        config = Config(connect_timeout=SECONDS, read_timeout=SECONDS, retries=retries, max_pool_connections=4)
        try:
            self._client: Any = boto3.session.Session().client("kms", config=config)
        except (BotoCoreError, ValueError) as error:
            raise SettingsError(f"ARBITER_KEY_SERVICE: boto3 cannot speak to AWS KMS: {error}") from None
        self._key = key

    def current(self) -> str:
        found = self._ask(lambda: self._client.describe_key(KeyId=self._key))
        return f"{self.name}:{found['KeyMetadata']['Arn']}"

    def wrap(self, secret: bytes, context: Context) -> Wrapped:
        given = self._ask(
            lambda: self._client.encrypt(KeyId=self._key, Plaintext=secret, EncryptionContext=dict(context))
        )
        return Wrapped(f"{self.name}:{given['KeyId']}", given["CiphertextBlob"])

    def unwrap(self, wrapped: Wrapped, context: Context) -> bytes:
        key = wrapped.key.partition(":")[2]
        given = self._ask(
            lambda: self._client.decrypt(KeyId=key, CiphertextBlob=wrapped.data, EncryptionContext=dict(context))
        )
        return bytes(given["Plaintext"])

    def rewrap(self, wrapped: Wrapped, context: Context) -> Wrapped:
        key, bound = wrapped.key.partition(":")[2], dict(context)
        given = self._ask(
            lambda: self._client.re_encrypt(
                CiphertextBlob=wrapped.data,
                SourceKeyId=key,
                SourceEncryptionContext=bound,
                DestinationKeyId=self._key,
                DestinationEncryptionContext=bound,
            )
        )
        return Wrapped(f"{self.name}:{given['KeyId']}", given["CiphertextBlob"])

    def close(self) -> None:
        self._client.close()

    def _ask(self, call: Callable[[], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        try:
            return call()
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MOVED:
                raise refused(self.name, MOVED) from None
            if code in _GONE:
                raise refused(self.name, GONE) from None
            if code in _CREDENTIALS:
                raise unavailable(self.name, CREDENTIALS) from None
            raise unavailable(self.name, f"{BUSY} ({code})") from None
        except (NoCredentialsError, PartialCredentialsError):
            raise unavailable(self.name, "has no credentials of ours: boto3 found none") from None
        except (BotoCoreError, OSError) as error:
            raise unavailable(self.name, f"{SILENT} ({type(error).__name__})") from None
