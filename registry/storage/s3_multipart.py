"""Send a large file to S3 in parts, several at a time; it becomes visible whole and right."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from registry.digest import Digest, DigestMismatchError
from registry.storage.s3_errors import error_code
from registry.storage.s3_objects import Objects, content_md5

_MAX_PARTS = 10_000
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Upload:
    objects: Objects
    key: str
    id: str

    @property
    def names(self) -> dict[str, str]:
        """Return the arguments that name this upload in every call."""
        return self.objects.names(self.key) | {"UploadId": self.id}

    def send(self, number: int, data: bytes) -> dict[str, object]:
        """Send one part; return what completing needs to know of it."""
        reply = self.objects.client.upload_part(
            **self.names, PartNumber=number, Body=data, ContentMD5=content_md5(data)
        )
        return {"PartNumber": number, "ETag": reply["ETag"]}

    def complete(self, parts: list[dict[str, object]]) -> None:
        """Make the object visible; after a lost reply a retry finds its upload gone."""
        try:
            self.objects.client.complete_multipart_upload(
                **self.names, MultipartUpload={"Parts": parts}
            )
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise

    def abort(self) -> None:
        """Take the parts back; where even that fails, `Objects.abort_stale` does it later."""
        try:
            self.objects.client.abort_multipart_upload(**self.names)
        except (ClientError, BotoCoreError):
            return


def send_in_parts(
    objects: Objects, key: str, source: BinaryIO, *, part_bytes: int, digest: Digest
) -> None:
    """Send a file in parts, and see that it arrived; if anything fails, nothing of it stays.

    Raises:
        DigestMismatchError: the file's bytes are not those of `digest`.
        StorageError: the server failed or kept something else.
    """
    with objects.bucket.errors(f"write {key} in parts"):
        created = objects.client.create_multipart_upload(**objects.names(key))
        upload, done = _Upload(objects, key, str(created["UploadId"])), False
        try:
            upload.complete(_send_parts(upload, source, part_bytes=part_bytes, digest=digest))
            done = True
        finally:
            if not done:
                upload.abort()


def part_size(size_bytes: int, part_bytes: int) -> int:
    """Return the length of a part so that there are not more than S3 allows."""
    return max(part_bytes, -(-size_bytes // _MAX_PARTS))


def _send_parts(
    upload: _Upload, source: BinaryIO, *, part_bytes: int, digest: Digest
) -> list[dict[str, object]]:
    """Send every part, hashing the whole on the way."""
    hasher = hashlib.sha256()
    waiting: deque[Future[dict[str, object]]] = deque()
    parts: list[dict[str, object]] = []
    pool = ThreadPoolExecutor(_AT_ONCE, "s3-part")
    try:
        for number, data in _pieces(source, part_bytes):
            if len(waiting) >= _AT_ONCE:
                parts.append(waiting.popleft().result())
            waiting.append(pool.submit(upload.send, number, data))
            hasher.update(data)
        parts.extend(future.result() for future in waiting)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    actual = Digest(hasher.hexdigest())
    if actual != digest:
        raise DigestMismatchError(digest, actual)
    return parts


def _pieces(source: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    number = 1
    while data := source.read(size):
        yield number, data
        number += 1
