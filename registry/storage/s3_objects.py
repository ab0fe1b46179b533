"""Put, get, list and remove the objects of one bucket; what botocore raises ends here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from botocore.exceptions import ClientError

from registry.errors import StorageError
from registry.storage.blobs import BlobStat
from registry.storage.s3_errors import Bucket, error_code
from registry.storage.s3_reader import Body

_NOT_FOUND = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_UNSUPPORTED = frozenset({"NotImplemented", "501"})


class Creation(StrEnum):
    """Say how a conditional PUT ended."""

    CREATED = "created"
    TAKEN = "taken"
    UNSUPPORTED = "unsupported"


def content_md5(data: bytes) -> str:
    """Return what lets the server notice bytes that were damaged on their way."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


@dataclass(frozen=True, slots=True)
class Objects:
    """Reach the objects of one bucket.

    Attributes:
        client: the boto3 client for S3, whose class exists only at run time.
        bucket: the bucket's name and its server.
    """

    client: Any
    bucket: Bucket

    def names(self, key: str) -> dict[str, str]:
        """Return bucket and key as boto3 wants them."""
        return {"Bucket": self.bucket.name, "Key": key}

    def check(self) -> None:
        """See that the bucket is there and answers."""
        with self.bucket.errors("look for the bucket"):
            self.client.head_bucket(Bucket=self.bucket.name)

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite an object by one PUT."""
        with self.bucket.errors(f"write {key}"):
            self.client.put_object(**self.names(key), Body=data, ContentMD5=content_md5(data))

    def create(self, key: str, data: bytes) -> Creation:
        """Write an object if there is none; the server decides a race."""
        md5 = content_md5(data)
        with self.bucket.errors(f"create {key}"):
            try:
                self.client.put_object(
                    **self.names(key), Body=data, ContentMD5=md5, IfNoneMatch="*"
                )
            except ClientError as error:
                if error_code(error) in _TAKEN:
                    return Creation.TAKEN
                if error_code(error) in _UNSUPPORTED:
                    return Creation.UNSUPPORTED
                raise
        return Creation.CREATED

    def stat(self, key: str) -> BlobStat | None:
        """Return size and time of an object, or None."""
        with self.bucket.errors(f"look for {key}"):
            try:
                reply = self.client.head_object(**self.names(key))
            except ClientError as error:
                if error_code(error) in _NOT_FOUND:
                    return None
                raise
        return BlobStat(reply["ContentLength"], reply["LastModified"].astimezone(UTC))

    def get(self, key: str, *, begin: int = 0, end: int | None = None) -> GuardedBody | None:
        """Ask for the bytes `[begin, end)` of an object, or for all of it; None if it is not there.

        Raises:
            StorageError: the server failed, or sends more or less than was asked for.
        """
        part = {} if end is None else {"Range": f"bytes={begin}-{end - 1}"}
        with self.bucket.errors(f"read {key}"):
            try:
                reply = self.client.get_object(**self.names(key), **part)
            except ClientError as error:
                if error_code(error) in _NOT_FOUND:
                    return None
                raise
        body = GuardedBody(reply["Body"], self.bucket, key, size_bytes=reply["ContentLength"])
        if end is not None and body.size_bytes != end - begin:
            body.close()
            raise StorageError(
                f"asked for {end - begin} bytes of {key}, the server sends {body.size_bytes}",
                hint="the copy is damaged, or the server does not know ranges",
            )
        return body

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there succeeds."""
        with self.bucket.errors(f"remove {key}"):
            self.client.delete_object(**self.names(key))

    def list(self, prefix: str) -> Iterator[tuple[str, BlobStat]]:
        """Yield key, size and time of every object whose key begins so, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket.name, Prefix=prefix
        )
        with self.bucket.errors(f"list {prefix}"):
            for entry in (entry for page in pages for entry in page.get("Contents", ())):
                changed = entry["LastModified"].astimezone(UTC)
                yield str(entry["Key"]), BlobStat(entry["Size"], changed)

    def abort_stale(self, prefix: str, *, older_than_s: float) -> int:
        """Abort multipart uploads below a prefix that began longer ago; return how many."""
        limit, count = datetime.now(UTC) - timedelta(seconds=older_than_s), 0
        with self.bucket.errors(f"look for interrupted uploads below {prefix}"):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket.name, Prefix=prefix
            )
            for upload in (upload for page in pages for upload in page.get("Uploads", ())):
                if upload["Key"].startswith(prefix) and upload["Initiated"] <= limit:
                    self._abort(upload["Key"], upload["UploadId"])
                    count += 1
        return count

    def _abort(self, key: str, upload_id: str) -> None:
        """Abort an upload, unless somebody else just did."""
        try:
            self.client.abort_multipart_upload(**self.names(key), UploadId=upload_id)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise


class GuardedBody:
    """Be the bytes of a reply; what fails while they come is a `StorageError`.

    Attributes:
        size_bytes: how many bytes the reply has.
    """

    def __init__(self, stream: Body, bucket: Bucket, key: str, *, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._stream = stream
        self._bucket = bucket
        self._key = key

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        with self._bucket.errors(f"read {self._key}"):
            return self._stream.read(size)

    def close(self) -> None:
        """Drop the connection if something is left on it."""
        self._stream.close()
