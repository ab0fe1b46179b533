"""Open the blob store that a setting names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from registry.errors import ValidationError
from registry.storage.blobs import BlobStore
from registry.storage.blobs_local import LocalBlobStore
from registry.storage.blobs_memory import MemoryBlobStore


def open_store(url: str) -> BlobStore:
    """Open a store by its URL.

    Args:
        url: `memory:`, a folder's path, `file:///folder`, or `s3://bucket/prefix`. The endpoint
            and credentials of S3 come from boto3's own settings (`AWS_ENDPOINT_URL_S3`,
            `AWS_ACCESS_KEY_ID`, …).

    Raises:
        ValidationError: the URL names no kind of store that there is.
        StorageError: the folder cannot be used, or boto3 is not installed.
    """
    if url == "memory:":
        return MemoryBlobStore()
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return _open_s3(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path != "":
        return LocalBlobStore(Path(unquote(parts.path)))
    if url and "://" not in url and not url.startswith(("memory:", "file:")):
        return LocalBlobStore(Path(url).expanduser())
    raise ValidationError(
        f"{url!r} is not a blob store",
        field="store",
        expected="a folder, file:///folder, s3://bucket/prefix or memory:",
        actual=url,
        hint="set ADAPTERS_STORE to one of these",
    )


def _open_s3(url: str) -> BlobStore:
    from registry.storage.blobs_s3 import S3BlobStore  # noqa: PLC0415 - boto3 only where it is asked for

    return S3BlobStore.from_url(url)
