"""Check the moment between the store's having a blob and the catalog's knowing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.digest import Digest, DigestMismatchError
from registry.storage.blobs_local import LocalBlobStore
from registry.storage.upload_session import OffsetMismatchError
from registry.storage.uploads import Uploads

DATA = b"tern" * 1000
DIGEST = Digest.of(DATA)


class CrashError(Exception):
    """Stand for whatever ends a hub between store and catalog."""


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "store")


def send(
    uploads: Uploads, store: LocalBlobStore, data: bytes, *, then: Exception | None = None
) -> None:
    """Send a whole blob and finish it; fail afterwards if asked."""
    with uploads.open("team", DIGEST, offset=0, size_bytes=len(data)) as session:
        session.write(data)
        session.finish(store)
        if then is not None:
            raise then


def deliver_and_crash(uploads: Uploads, store: LocalBlobStore) -> None:
    """Store the blob, and fail before anybody could note it."""
    with pytest.raises(CrashError):
        send(uploads, store, DATA, then=CrashError())


def resume(uploads: Uploads, store: LocalBlobStore) -> None:
    """Finish without sending a byte."""
    with uploads.open("team", DIGEST, offset=len(DATA), size_bytes=len(DATA)) as session:
        assert session.complete
        session.finish(store)


def test_no_byte_is_asked_for_again(uploads: Uploads, store: LocalBlobStore) -> None:
    deliver_and_crash(uploads, store)
    assert store.stat(DIGEST) is not None
    assert uploads.offset("team", DIGEST) == len(DATA)
    resume(uploads, store)
    assert uploads.offset("team", DIGEST) == 0
    assert list(uploads.root.iterdir()) == []


def test_only_who_delivered_it_may_say_so(uploads: Uploads, store: LocalBlobStore) -> None:
    deliver_and_crash(uploads, store)
    assert uploads.offset("rival", DIGEST) == 0
    with (
        pytest.raises(OffsetMismatchError),
        uploads.open("rival", DIGEST, offset=len(DATA), size_bytes=len(DATA)),
    ):
        pass


def test_wrong_bytes_are_never_noted_as_delivered(uploads: Uploads, store: LocalBlobStore) -> None:
    store.put_bytes(DIGEST, DATA)
    with pytest.raises(DigestMismatchError):
        send(uploads, store, b"x" * len(DATA))
    assert uploads.offset("team", DIGEST) == 0


def test_a_blob_that_was_collected_meanwhile_is_asked_for(
    uploads: Uploads, store: LocalBlobStore
) -> None:
    deliver_and_crash(uploads, store)
    store.delete(DIGEST)
    with pytest.raises(OffsetMismatchError) as caught:
        resume(uploads, store)
    assert caught.value.offset == 0
    assert uploads.offset("team", DIGEST) == 0


def test_another_length_is_not_taken_for_delivered(uploads: Uploads, store: LocalBlobStore) -> None:
    deliver_and_crash(uploads, store)
    with (
        pytest.raises(OffsetMismatchError),
        uploads.open("team", DIGEST, offset=len(DATA), size_bytes=len(DATA) + 1),
    ):
        pass


def test_stale_notes_go(uploads: Uploads, store: LocalBlobStore) -> None:
    deliver_and_crash(uploads, store)
    uploads.discard_stale(older_than_s=3600)
    assert uploads.offset("team", DIGEST) == len(DATA)
    uploads.discard_stale(older_than_s=-1)
    assert uploads.offset("team", DIGEST) == 0
