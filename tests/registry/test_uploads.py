"""Check resumable uploads: continuing, excluding, limiting, finishing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.digest import CHUNK_BYTES, Digest, DigestMismatchError
from registry.errors import ConflictError, StorageError, ValidationError
from registry.storage.blobs import BlobStore
from registry.storage.blobs_local import LocalBlobStore
from registry.storage.blobs_memory import MemoryBlobStore
from registry.storage.upload_session import (
    OffsetMismatchError,
    UploadIncompleteError,
    UploadOverrunError,
)
from registry.storage.uploads import BlobTooLargeError, StagingFullError, UploadBusyError, Uploads
from tests.contracts.blob_store import race, sample

DATA = sample(3 * CHUNK_BYTES + 17)
DIGEST = Digest.of(DATA)


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "store")


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    """Cut bytes into pieces."""
    return (data[at : at + size] for at in range(0, len(data), size))


def send(
    uploads: Uploads, data: bytes | Iterable[bytes], *, offset: int = 0, whole: bytes = DATA
) -> None:
    """Send some bytes of a whole, and leave."""
    with uploads.open("team", Digest.of(whole), offset=offset, size_bytes=len(whole)) as session:
        for part in [data] if isinstance(data, bytes) else data:
            session.write(part)


def finish(uploads: Uploads, store: BlobStore) -> None:
    """Finish an upload whose every byte is staged."""
    with uploads.open("team", DIGEST, offset=len(DATA), size_bytes=len(DATA)) as session:
        assert session.complete
        session.finish(store)


def send_all(uploads: Uploads, store: BlobStore, data: bytes, *, piece: int) -> None:
    """Send a whole in pieces, and finish."""
    with uploads.open("team", Digest.of(data), offset=0, size_bytes=len(data)) as session:
        for part in pieces(data, piece):
            session.write(part)
        assert session.complete
        session.finish(store)


def staged_files(uploads: Uploads) -> list[Path]:
    return list(uploads.root.iterdir())


@pytest.mark.parametrize("piece", [1000, 65_536, CHUNK_BYTES, 10 * CHUNK_BYTES])
def test_a_whole_becomes_a_blob(uploads: Uploads, store: LocalBlobStore, piece: int) -> None:
    send_all(uploads, store, DATA, piece=piece)
    assert b"".join(store.read(DIGEST)) == DATA
    assert uploads.offset("team", DIGEST) == 0
    assert not staged_files(uploads)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_every_size_becomes_a_blob(uploads: Uploads, store: LocalBlobStore, size: int) -> None:
    data = sample(size)
    send_all(uploads, store, data, piece=1 << 19)
    assert b"".join(store.read(Digest.of(data))) == data
    assert not staged_files(uploads)


def test_any_store_will_do(uploads: Uploads) -> None:
    store = MemoryBlobStore()
    send_all(uploads, store, DATA, piece=65_536)
    assert b"".join(store.read(DIGEST)) == DATA
    assert not staged_files(uploads)


def test_finishing_is_a_rename(uploads: Uploads, store: LocalBlobStore) -> None:
    send(uploads, DATA)
    inode = staged_files(uploads)[0].stat().st_ino
    finish(uploads, store)
    with store.open(DIGEST) as file:
        assert os.fstat(file.fileno()).st_ino == inode


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=4).map(sorted))
def test_any_cuts_make_the_same_blob(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    uploads, store = Uploads(tmp_path_factory.mktemp("uploads")), MemoryBlobStore()
    for begin, end in zip([0, *cuts], [*cuts, len(DATA)], strict=True):
        assert uploads.offset("team", DIGEST) == begin
        with uploads.open("team", DIGEST, offset=begin, size_bytes=len(DATA)) as session:
            for part in pieces(DATA[begin:end], 300_001):
                session.write(part)
            assert session.offset == end
            if session.complete:
                session.finish(store)
                break
    assert b"".join(store.read(DIGEST)) == DATA


def test_leaving_keeps_every_byte(uploads: Uploads) -> None:
    def parts() -> Iterable[bytes]:
        yield from pieces(DATA[:1_234_567], 1000)
        raise RuntimeError("the client went away")

    with pytest.raises(RuntimeError, match="went away"):
        send(uploads, parts())
    assert uploads.offset("team", DIGEST) == 1_234_567
    assert Uploads(uploads.root).offset("team", DIGEST) == 1_234_567, "also after a restart"
    assert staged_files(uploads)[0].read_bytes() == DATA[:1_234_567]


@pytest.mark.parametrize("offset", [0, 999, 1001, len(DATA)])
def test_a_gap_or_overlap_is_refused(uploads: Uploads, offset: int) -> None:
    send(uploads, DATA[:1000])
    with pytest.raises(OffsetMismatchError) as caught:
        send(uploads, b"", offset=offset)
    assert isinstance(caught.value, ConflictError)
    assert (caught.value.offset, caught.value.actual) == (1000, offset)
    assert "1000" in caught.value.hint
    assert uploads.offset("team", DIGEST) == 1000


def test_a_staged_file_longer_than_the_whole_begins_anew(uploads: Uploads) -> None:
    send(uploads, DATA[:5000])
    with pytest.raises(OffsetMismatchError) as caught:
        uploads.open("team", DIGEST, offset=5000, size_bytes=100).__enter__()
    assert caught.value.offset == 0
    assert uploads.offset("team", DIGEST) == 0


def test_namespaces_do_not_meet(uploads: Uploads) -> None:
    send(uploads, DATA[:1000])
    assert uploads.offset("other", DIGEST) == 0
    assert uploads.offset("team", Digest.of(b"")) == 0
    with (
        uploads.open("team", DIGEST, offset=1000, size_bytes=len(DATA)),
        uploads.open("other", DIGEST, offset=0, size_bytes=len(DATA)) as session,
    ):
        session.write(b"theirs")
    assert uploads.offset("other", DIGEST) == 6


def test_one_session_at_a_time(uploads: Uploads) -> None:
    with uploads.open("team", DIGEST, offset=0, size_bytes=len(DATA)) as session:
        session.write(b"x")
        for other in (uploads, Uploads(uploads.root)):
            with pytest.raises(UploadBusyError) as caught:
                other.open("team", DIGEST, offset=0, size_bytes=len(DATA)).__enter__()
            assert caught.value.digest == DIGEST
    send(uploads, b"y", offset=1)


def test_threads_race_and_one_wins(uploads: Uploads, store: LocalBlobStore) -> None:
    def attempt(_: int) -> str:
        try:
            send_all(uploads, store, DATA, piece=65_536)
        except (UploadBusyError, OffsetMismatchError) as error:
            return type(error).__name__
        return "stored"

    outcomes = race(attempt, range(6))
    assert "stored" in outcomes
    assert set(outcomes) <= {"stored", "UploadBusyError"}
    assert b"".join(store.read(DIGEST)) == DATA
    assert not staged_files(uploads)


def test_wrong_bytes_are_thrown_away(uploads: Uploads, store: LocalBlobStore) -> None:
    wrong = DATA[:-1] + b"?"
    send(uploads, wrong)
    with pytest.raises(DigestMismatchError) as caught:
        finish(uploads, store)
    assert caught.value.actual == Digest.of(wrong)
    assert store.stat(DIGEST) is None
    assert not staged_files(uploads)
    send_all(uploads, store, DATA, piece=CHUNK_BYTES)


def test_bytes_damaged_while_staged_are_noticed(uploads: Uploads, store: LocalBlobStore) -> None:
    send(uploads, DATA[:2_000_000])
    with staged_files(uploads)[0].open("r+b") as file:
        file.write(b"damage")
    send(uploads, DATA[2_000_000:], offset=2_000_000)
    with pytest.raises(DigestMismatchError):
        finish(uploads, store)
    assert uploads.offset("team", DIGEST) == 0


def test_too_many_bytes_are_refused(uploads: Uploads, store: LocalBlobStore) -> None:
    with uploads.open("team", DIGEST, offset=0, size_bytes=len(DATA)) as session:
        session.write(DATA[:-1])
        with pytest.raises(UploadOverrunError) as caught:
            session.write(DATA[-1:] + b"?")
        assert str(len(DATA)) in caught.value.expected
        session.write(DATA[-1:])
        session.finish(store)
        with pytest.raises(UploadOverrunError):
            session.write(b"into the blob?")
    assert b"".join(store.read(DIGEST)) == DATA


def test_too_few_bytes_do_not_finish(uploads: Uploads, store: LocalBlobStore) -> None:
    with uploads.open("team", DIGEST, offset=0, size_bytes=len(DATA)) as session:
        session.write(DATA[:-1])
        with pytest.raises(UploadIncompleteError) as caught:
            session.finish(store)
    assert (caught.value.expected, caught.value.actual) == (len(DATA), len(DATA) - 1)
    assert uploads.offset("team", DIGEST) == len(DATA) - 1


@pytest.mark.parametrize("size", [-1, 1001])
def test_a_size_out_of_bounds_is_refused(tmp_path: Path, size: int) -> None:
    uploads = Uploads(tmp_path, max_blob_bytes=1000)
    with pytest.raises(BlobTooLargeError) as caught:
        uploads.open("team", DIGEST, offset=0, size_bytes=size).__enter__()
    assert isinstance(caught.value, ValidationError)
    assert "1000" in caught.value.expected
    assert not staged_files(uploads)


def test_all_uploads_together_are_limited(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, max_staged_bytes=10_000)
    first, second = sample(6000, seed=1), sample(6000, seed=2)
    with uploads.open("team", Digest.of(first), offset=0, size_bytes=6000):
        with pytest.raises(StagingFullError) as caught:
            send(uploads, second, whole=second)
        assert "10000" in caught.value.message
    send(uploads, first[:4000], whole=first)
    send(uploads, second, whole=second)
    assert uploads.staged_bytes() == 10_000
    with pytest.raises(StagingFullError):
        send(uploads, first[4000:], offset=4000, whole=first)
    assert uploads.offset("team", Digest.of(first)) == 4000, "what is there is kept"


def test_an_empty_session_leaves_no_file(uploads: Uploads) -> None:
    send(uploads, b"")
    assert not staged_files(uploads)


class FailingStore(MemoryBlobStore):
    """Be a store that is out of order once."""

    broken = True

    def put_file(self, digest: Digest, path: Path, *, verified: bool = False) -> None:
        """Fail the first time."""
        if self.broken:
            self.broken = False
            raise StorageError("out of order")
        super().put_file(digest, path, verified=verified)


def test_a_failing_store_costs_no_bytes(uploads: Uploads) -> None:
    store = FailingStore()
    with pytest.raises(StorageError, match="out of order"):
        send_all(uploads, store, DATA, piece=CHUNK_BYTES)
    assert uploads.offset("team", DIGEST) == len(DATA)
    finish(uploads, store)
    assert b"".join(store.read(DIGEST)) == DATA


def test_stale_uploads_go_and_others_stay(uploads: Uploads) -> None:
    old, new, busy = (sample(10, seed=n) for n in range(3))
    for data in (old, new):
        send(uploads, data[:5], whole=data)
    with uploads.open("team", Digest.of(busy), offset=0, size_bytes=10) as session:
        session.write(busy[:5])
        for path in staged_files(uploads):
            os.utime(path, (1, 1))
        os.utime(uploads._path("team", Digest.of(new)))
        assert uploads.discard_stale(older_than_s=3600) == 1
    assert uploads.offset("team", Digest.of(old)) == 0
    assert uploads.offset("team", Digest.of(new)) == 5
    assert uploads.offset("team", Digest.of(busy)) == 5


def test_only_the_owner_can_read_what_is_staged(uploads: Uploads) -> None:
    send(uploads, DATA[:10])
    assert staged_files(uploads)[0].stat().st_mode & 0o077 == 0
    assert uploads.root.stat().st_mode & 0o077 == 0


def test_a_link_in_the_way_is_not_followed(uploads: Uploads, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    uploads._path("team", DIGEST).symlink_to(target)
    with pytest.raises(StorageError):
        send(uploads, DATA)
    assert target.read_bytes() == b"precious"
