"""Take one blob for a namespace: announced, staged, stored, and only then acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from registry.catalog.database import Database
from registry.catalog.errors import BlobBusyError
from registry.catalog.objects import ObjectKind, announce, confirm, has_room, hold
from registry.clock import Clock, time_text
from registry.digest import Digest
from registry.storage.blobs import BlobStore
from registry.storage.upload_session import UploadSession
from registry.storage.uploads import Uploads


@dataclass(frozen=True, slots=True)
class BlobUploads:
    """Receive blobs.

    Attributes:
        database: the catalog.
        store: where blobs end.
        uploads: where they are staged.
        clock: tells the time.
        quota_bytes: how much one namespace may hold.
    """

    database: Database
    store: BlobStore
    uploads: Uploads
    clock: Clock
    quota_bytes: int

    @contextmanager
    def upload(
        self, namespace: str, digest: Digest, *, offset: int, size_bytes: int
    ) -> Iterator[UploadSession]:
        """Continue or begin an upload; with its last byte the blob is stored and remembered.

        Leaving the context without error either acknowledges the whole blob or, if bytes are
        still missing, keeps what came.

        Raises:
            BlobBusyError: this very blob is being collected at this moment.
            DigestMismatchError: the bytes are not those of the digest.
            QuotaExceededError: the namespace would hold too much.
            UploadBusyError: another session is sending it.
            OffsetMismatchError: `offset` is not where the staged bytes end.
        """
        self._check_quota(namespace, digest, size_bytes)
        with self.uploads.open(namespace, digest, offset=offset, size_bytes=size_bytes) as session:
            yield session
            if session.complete:
                self._finish(namespace, session)

    def _finish(self, namespace: str, session: UploadSession) -> None:
        digest, size = session.digest, session.size_bytes
        now = time_text(self.clock())
        number = self.database.write(
            lambda c: announce(c, digest, kind=ObjectKind.BLOB, size_bytes=size, now=now)
        )
        session.finish(self.store)
        stored = time_text(self.clock())
        if not self.database.write(
            lambda c: (
                confirm(c, number, now=stored)
                and has_room(c, namespace, digest, size_bytes=size, limit=self.quota_bytes)
                and hold(c, namespace, digest, size_bytes=size, now=stored)
            )
        ):
            raise BlobBusyError(digest)

    def _check_quota(self, namespace: str, digest: Digest, size_bytes: int) -> None:
        """Refuse before it is sent what cannot be kept; `_finish` looks again."""
        with self.database.read() as connection:
            has_room(connection, namespace, digest, size_bytes=size_bytes, limit=self.quota_bytes)
