"""Keep records in a bucket: small named objects below `<prefix>/records/`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from registry.errors import StorageError
from registry.storage.blobs import (
    MAX_RECORD_BYTES,
    check_record_key,
    check_record_prefix,
    check_record_size,
)
from registry.storage.s3_objects import Creation, Objects

_CREATE_ATTEMPTS = 3


class S3Records:
    """Be the records half of a `BlobStore` in a bucket."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        """Keep records below a prefix that ends with a slash."""
        self._objects = objects
        self._prefix = prefix

    def write(self, key: str, data: bytes) -> None:
        """Write or overwrite a record."""
        name = self._name(key)
        check_record_size(key, data)
        self._objects.put(name, data)

    def create(self, key: str, data: bytes) -> bool:
        """Write a record if there is none; return whether it has these bytes now.

        The server decides a race (`If-None-Match: *`); a PUT whose reply was lost and that was
        tried again finds its own bytes. A server that knows no conditional PUT is asked first and
        written to then: there two writers at the same moment may both succeed.
        """
        name = self._name(key)
        check_record_size(key, data)
        for _ in range(_CREATE_ATTEMPTS):
            creation = self._objects.create(name, data)
            if creation is Creation.CREATED:
                return True
            present = self.read(key)
            if present is not None:
                return present == data
            if creation is Creation.UNSUPPORTED:
                self._objects.put(name, data)
                return True
        raise StorageError(
            f"record {key} is created and removed at the same time by others", hint="try again"
        )

    def read(self, key: str) -> bytes | None:
        """Return a record's bytes, or None."""
        body = self._objects.get(self._name(key))
        if body is None:
            return None
        with closing(body):
            if body.size_bytes <= MAX_RECORD_BYTES:
                return b"".join(iter(lambda: body.read(1 << 20), b""))
        raise StorageError(
            f"record {key} has {body.size_bytes} bytes, and {MAX_RECORD_BYTES} are allowed",
            hint="something else wrote it: remove it from the bucket",
        )

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, sorted."""
        check_record_prefix(prefix)
        found = self._objects.list(f"{self._prefix}{prefix}")
        return (name.removeprefix(self._prefix) for name, _ in found)

    def delete(self, key: str) -> None:
        """Remove a record."""
        self._objects.delete(self._name(key))

    def _name(self, key: str) -> str:
        return f"{self._prefix}{check_record_key(key)}"
