"""Keep blobs in an S3 bucket: `<prefix>/blobs/sha256/ab/cd/<hex>` and `<prefix>/records/<key>`.

Works with any server that speaks S3. Endpoint, region and credentials are boto3's own settings.
No checksum of the server is trusted: Content-MD5 guards the way there, and a whole read is
verified against the digest. A blob appears by one PUT or by the completion of a multipart upload.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from registry.digest import CHUNK_BYTES, Digest, DigestMismatchError, verified
from registry.errors import StorageError, ValidationError
from registry.storage.blobs import BlobNotFoundError, BlobStat, check_record_key, clip_range
from registry.storage.durable import disk_errors
from registry.storage.s3_errors import Bucket
from registry.storage.s3_multipart import part_size, send_in_parts
from registry.storage.s3_objects import Objects
from registry.storage.s3_reader import Body, open_ranged
from registry.storage.s3_records import S3Records

if TYPE_CHECKING:
    from botocore.config import _S3Dict

_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_HEX = re.compile(r"[0-9a-f]{64}")
_MAX_PRESIGNED_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Say how to speak to the server.

    Attributes:
        endpoint_url: the server, or None for what boto3's own settings say.
        multipart_above_bytes: files longer than this go in parts.
        part_bytes: the length of a part, at least 5 MiB; a few of them are in memory at once.
        timeout_s: how long one reply may take to begin.
        attempts: how often a request is tried.
    """

    endpoint_url: str | None = None
    multipart_above_bytes: int = 16 << 20
    part_bytes: int = 8 << 20
    timeout_s: float = 60.0
    attempts: int = 4


class S3BlobStore:
    """Be a `BlobStore` in an S3 bucket."""

    def __init__(
        self, bucket: str, prefix: str = "", *, settings: S3Settings | None = None
    ) -> None:
        """Open the store; nothing is sent yet (`check` does).

        Args:
            bucket: the bucket's name.
            prefix: what every key begins with, without slashes at its ends; may be empty.
            settings: how to speak to the server.

        Raises:
            ValidationError: bucket or prefix cannot be names.
            StorageError: boto3's settings make no sense.
        """
        root = _root(bucket, prefix)
        self._settings = settings or S3Settings()
        self._blobs = f"{root}blobs/sha256/"
        with Bucket(bucket, self._settings.endpoint_url or "its endpoint").errors("open the store"):
            client = _client(self._settings)
        self._objects = Objects(client, Bucket(bucket, str(client.meta.endpoint_url)))
        self._records = S3Records(self._objects, f"{root}records/")

    @classmethod
    def from_url(cls, url: str, *, settings: S3Settings | None = None) -> S3BlobStore:
        """Open the store that `s3://bucket/prefix` names, and see that the bucket answers.

        Raises:
            ValidationError: the URL is not of that form.
            StorageError: the bucket is not there or cannot be reached.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or parts.query or parts.fragment:
            raise _not_a_place(url, "s3://bucket/prefix")
        store = cls(parts.netloc, parts.path.strip("/"), settings=settings)
        store.check()
        return store

    def check(self) -> None:
        """See that the bucket is there and answers.

        Raises:
            StorageError: it does not; the hint says what to do.
        """
        self._objects.check()

    def close(self) -> None:
        """Let go of the connections; the store cannot be used afterwards."""
        self._objects.client.close()

    def put_file(self, digest: Digest, path: Path, *, verified: bool = False) -> None:
        """Store a file, in parts if it is long; its bytes are hashed on the way in any case."""
        del verified
        with disk_errors(f"store blob {digest.short} from", path), path.open("rb") as source:
            size = path.stat().st_size
            if size <= self._settings.multipart_above_bytes:
                self.put_bytes(digest, source.read())
                return
            part_bytes = part_size(size, self._settings.part_bytes)
            send_in_parts(
                self._objects, self._key(digest), source, part_bytes=part_bytes, digest=digest
            )
        self._check_arrival(digest, size)

    def put_bytes(self, digest: Digest, data: bytes) -> None:
        """Store a small blob by one PUT."""
        actual = Digest.of(data)
        if actual != digest:
            raise DigestMismatchError(digest, actual)
        self._objects.put(self._key(digest), data)

    def stat(self, digest: Digest) -> BlobStat | None:
        """Return size and time of a blob, or None."""
        return self._objects.stat(self._key(digest))

    def read(self, digest: Digest, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield bytes in chunks of 1 MiB, verified if they are the whole."""
        begin, end, whole = 0, None, True
        if start or length is not None:
            size = self._require(digest).size_bytes
            begin, end = clip_range(size, start=start, length=length)
            whole = end - begin == size
            if begin == end:
                return verified((), digest) if whole else iter(())
        chunks = self._chunks(digest, begin, end)
        next(chunks)  # asks the server now; the connection is let go when the chunks end
        return verified(chunks, digest) if whole else chunks

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob for random reads, by ranged requests that read ahead."""
        size = self._require(digest).size_bytes
        return open_ranged(lambda begin, end: self._get(digest, begin, end), size)

    def delete(self, digest: Digest) -> None:
        """Remove a blob."""
        self._objects.delete(self._key(digest))

    def list(self) -> Iterator[tuple[Digest, BlobStat]]:
        """Yield every blob, in order of digest; what has no digest for a name is passed over."""
        for key, stat in self._objects.list(self._blobs):
            if _HEX.fullmatch(key[-64:]) and key == self._key(Digest(key[-64:])):
                yield Digest(key[-64:]), stat

    def presigned_url(self, digest: Digest, *, expires_s: int) -> str | None:
        """Return a URL that lets its holder fetch the blob for a while.

        Raises:
            ValidationError: that while is not between a second and a week.
        """
        if not 0 < expires_s <= _MAX_PRESIGNED_S:
            raise ValidationError(
                "a presigned URL cannot hold for so long",
                field="expires_s",
                expected=f"1 to {_MAX_PRESIGNED_S} seconds",
                actual=f"{expires_s} seconds",
            )
        names = self._objects.names(self._key(digest))
        reply = {
            "ResponseContentType": "application/octet-stream",
            "ResponseContentDisposition": "attachment",
        }
        with self._objects.bucket.errors(f"sign a URL for blob {digest.short}"):
            return str(
                self._objects.client.generate_presigned_url(
                    "get_object", Params=names | reply, ExpiresIn=expires_s
                )
            )

    def write_record(self, key: str, data: bytes) -> None:
        """Write or overwrite a record."""
        self._records.write(key, data)

    def create_record(self, key: str, data: bytes) -> bool:
        """Write a record if there is none; return whether it has these bytes now."""
        return self._records.create(key, data)

    def read_record(self, key: str) -> bytes | None:
        """Return a record's bytes, or None."""
        return self._records.read(key)

    def list_records(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, sorted."""
        return self._records.list(prefix)

    def delete_record(self, key: str) -> None:
        """Remove a record."""
        self._records.delete(key)

    def discard_stale(self, *, older_than_s: float) -> int:
        """Abort multipart uploads that began longer ago and were never completed."""
        return self._objects.abort_stale(self._blobs, older_than_s=older_than_s)

    def _key(self, digest: Digest) -> str:
        return f"{self._blobs}{digest.hex[:2]}/{digest.hex[2:4]}/{digest.hex}"

    def _check_arrival(self, digest: Digest, size_bytes: int) -> None:
        """See that a completed upload stands there with its whole length."""
        arrived = self.stat(digest)
        if arrived is None or arrived.size_bytes != size_bytes:
            raise StorageError(
                f"blob {digest.short} did not arrive whole in {self._objects.bucket.name!r}: "
                f"expected {size_bytes} bytes, found {arrived.size_bytes if arrived else 'none'}",
                hint="try again; if it stays so, the server is at fault",
            )

    def _require(self, digest: Digest) -> BlobStat:
        found = self.stat(digest)
        if found is None:
            raise BlobNotFoundError(digest)
        return found

    def _get(self, digest: Digest, begin: int, end: int | None) -> Body:
        body = self._objects.get(self._key(digest), begin=begin, end=end)
        if body is None:
            raise BlobNotFoundError(digest)
        return body

    def _chunks(self, digest: Digest, begin: int, end: int | None) -> Iterator[bytes]:
        """Yield nothing once, when the server has answered; then the bytes."""
        with closing(self._get(digest, begin, end)) as body:
            yield b""
            while chunk := body.read(CHUNK_BYTES):
                yield chunk


def _root(bucket: str, prefix: str) -> str:
    """Return what every key begins with."""
    if not _BUCKET_NAME.fullmatch(bucket):
        raise _not_a_place(bucket, "a bucket's name: 3 to 63 of A-Za-z0-9._-")
    return f"{check_record_key(prefix)}/" if prefix else ""


def _not_a_place(text: str, expected: str) -> ValidationError:
    return ValidationError(
        f"{text[:200]!r} does not name a place in S3",
        field="store",
        expected=expected,
        actual=text[:200],
        hint="set ADAPTERS_STORE to s3://bucket/prefix; the endpoint is AWS_ENDPOINT_URL_S3",
    )


def _client(settings: S3Settings) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    """Make a client; a server of one's own is addressed by path, Amazon's by host."""
    session = boto3.Session()
    client = _make_client(session, settings, {"addressing_style": "auto"})
    host = urlsplit(str(client.meta.endpoint_url)).hostname or ""
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return client
    return _make_client(session, settings, {"addressing_style": "path"})


def _make_client(session: boto3.Session, settings: S3Settings, addressing: _S3Dict) -> Any:  # noqa: ANN401 - as above
    config = Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        connect_timeout=min(10.0, settings.timeout_s),
        read_timeout=settings.timeout_s,
        max_pool_connections=32,
        tcp_keepalive=True,
        s3=addressing,
    )
    return session.client("s3", endpoint_url=settings.endpoint_url, config=config)
