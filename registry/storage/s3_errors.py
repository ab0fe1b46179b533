"""Turn what botocore raises into a `StorageError` that names the bucket and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore import exceptions as boto

from registry.errors import StorageError

_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may use this bucket"
_CONNECTION = "check AWS_ENDPOINT_URL_S3, and that the server runs and can be reached from here"
_CODE_HINTS = {
    "NoSuchBucket": "create the bucket, or correct ADAPTERS_STORE",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, and that this machine's clock is right",
    "RequestTimeTooSkewed": "set this machine's clock",
    "AccessDenied": _CREDENTIALS,
    "403": _CREDENTIALS,
    "404": "create the bucket, or correct ADAPTERS_STORE",
    "BadDigest": "the bytes were damaged on their way: try again",
    "QuotaExceeded": "the bucket is full: raise its quota or free some space",
    "SlowDown": "the server is overloaded: try again later",
}
_KIND_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (boto.NoCredentialsError, _CREDENTIALS),
    (boto.PartialCredentialsError, _CREDENTIALS),
    (boto.NoRegionError, "set AWS_DEFAULT_REGION"),
    (boto.SSLError, "check the certificate of the endpoint, or set AWS_CA_BUNDLE"),
    (boto.HTTPClientError, _CONNECTION),
    (boto.ConnectionError, _CONNECTION),
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Name a bucket and where it is.

    Attributes:
        name: the bucket's name.
        endpoint: the URL of the server.
    """

    name: str
    endpoint: str

    @contextmanager
    def errors(self, operation: str) -> Iterator[None]:
        """Raise whatever fails in here as a `StorageError` that names operation and bucket."""
        try:
            yield
        except boto.ClientError as error:
            code, text = error_code(error), error.response.get("Error", {}).get("Message")
            reason = f"{code}: {text}" if text else code
            raise self._failure(operation, reason, _CODE_HINTS.get(code, "")) from error
        except boto.BotoCoreError as error:
            hints = (hint for kind, hint in _KIND_HINTS if isinstance(error, kind))
            raise self._failure(operation, str(error), next(hints, "")) from error

    def _failure(self, operation: str, reason: str, hint: str) -> StorageError:
        return StorageError(
            f"cannot {operation} in bucket {self.name!r} at {self.endpoint}: {reason}", hint=hint
        )


def error_code(error: boto.ClientError) -> str:
    """Return the server's word for what went wrong, or its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))
