"""State what every blob store must pass; each inherits this class and says how to damage a blob."""

from __future__ import annotations

import gc
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.digest import CHUNK_BYTES, Digest, DigestMismatchError
from registry.errors import ValidationError
from registry.storage.blobs import MAX_RECORD_BYTES, BlobNotFoundError, BlobStore

Given = TypeVar("Given")
Result = TypeVar("Result")
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7)
ABSENT = Digest.of(b"never stored")
BAD_KEYS = (
    "",
    "/a",
    "a/",
    "a//b",
    "..",
    "a/../b",
    "./a",
    "a b",
    "a\n",
    "a\\b",
    "ä",
    "a:b",
    "x" * 256,
    "/".join(["abc"] * 226),
)
SEGMENTS = st.text("aB0-._", min_size=1, max_size=3).filter(lambda part: part not in {".", ".."})
KEYS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
# Each store is one run of the inherited test, and every example uses names or bytes of its own.
few_examples = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def sample(size: int, *, seed: int = 0) -> bytes:
    """Return bytes that differ everywhere, so that a wrong offset shows."""
    block = b"".join((seed + at).to_bytes(8, "big") for at in range(1024))
    return (block * (size // len(block) + 1))[:size]


def race(work: Callable[[Given], Result], given_to_each: Sequence[Given]) -> list[Result]:
    """Run `work` on each value in threads that begin together, and return what they return."""
    barrier = Barrier(len(given_to_each))

    def begin(value: Given) -> Result:
        barrier.wait(timeout=30)
        return work(value)

    with ThreadPoolExecutor(len(given_to_each)) as pool:
        return list(pool.map(begin, given_to_each))


class BlobStoreContract(ABC):
    """Hold the tests; a subclass gives an empty `store` and `damage`."""

    @abstractmethod
    def damage(self, store: BlobStore, digest: Digest, data: bytes) -> None:
        """Replace the stored bytes of a blob behind the store's back."""

    @staticmethod
    def put(store: BlobStore, data: bytes) -> Digest:
        """Store bytes and return their digest."""
        digest = Digest.of(data)
        store.put_bytes(digest, data)
        return digest

    @staticmethod
    def everything(store: BlobStore, digest: Digest) -> bytes:
        """Read a whole blob."""
        return b"".join(store.read(digest))

    # --- blobs ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", SIZES)
    def test_bytes_come_back(self, store: BlobStore, size: int) -> None:
        data = sample(size)
        digest = self.put(store, data)
        assert self.everything(store, digest) == data
        stat = store.stat(digest)
        assert stat is not None
        assert stat.size_bytes == size

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("verified", [False, True])
    def test_files_come_back(
        self, store: BlobStore, tmp_path: Path, size: int, verified: bool
    ) -> None:
        data = sample(size)
        path = tmp_path / "file"
        path.write_bytes(data)
        store.put_file(Digest.of(data), path, verified=verified)
        assert self.everything(store, Digest.of(data)) == data
        with store.open(Digest.of(data)) as file:
            assert file.read() == data

    def test_chunks_are_bounded(self, store: BlobStore) -> None:
        digest = self.put(store, sample(3 * CHUNK_BYTES))
        assert max(len(chunk) for chunk in store.read(digest)) <= 2 * CHUNK_BYTES

    def test_what_is_absent_is_said_at_once(self, store: BlobStore) -> None:
        assert store.stat(ABSENT) is None
        with pytest.raises(BlobNotFoundError) as caught:
            store.read(ABSENT)
        assert caught.value.digest == ABSENT
        with pytest.raises(BlobNotFoundError):
            store.read(ABSENT, start=1, length=2)
        with pytest.raises(BlobNotFoundError), store.open(ABSENT):
            pass

    def test_the_time_is_that_of_storing(self, store: BlobStore) -> None:
        stat = store.stat(self.put(store, b"now"))
        assert stat is not None
        assert stat.stored_at.utcoffset() == timedelta(0)
        assert abs(stat.stored_at - datetime.now(UTC)) < timedelta(seconds=30)

    def test_an_old_file_is_stored_now(self, store: BlobStore, tmp_path: Path) -> None:
        path = tmp_path / "old"
        path.write_bytes(b"old")
        os.utime(path, (1, 1))
        store.put_file(Digest.of(b"old"), path)
        stat = store.stat(Digest.of(b"old"))
        assert stat is not None
        assert stat.stored_at.year > 1970

    @few_examples
    @given(start=st.integers(0, 70_000), length=st.none() | st.integers(0, 70_000))
    def test_a_range_is_a_slice(self, store: BlobStore, start: int, length: int | None) -> None:
        data = sample(65_537)
        digest = self.put(store, data)
        expected = data[start:] if length is None else data[start : start + length]
        assert b"".join(store.read(digest, start=start, length=length)) == expected

    def test_a_range_crosses_chunks(self, store: BlobStore) -> None:
        data = sample(3 * CHUNK_BYTES)
        digest = self.put(store, data)
        begin, length = CHUNK_BYTES - 1, CHUNK_BYTES + 2
        assert b"".join(store.read(digest, start=begin, length=length)) == data[begin:][:length]

    @pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1), (-5, 5)])
    def test_a_negative_range_is_refused(
        self, store: BlobStore, start: int, length: int | None
    ) -> None:
        digest = self.put(store, b"some")
        with pytest.raises(ValidationError) as caught:
            store.read(digest, start=start, length=length)
        assert caught.value.field == "range"

    def test_wrong_bytes_are_not_stored(self, store: BlobStore, tmp_path: Path) -> None:
        path = tmp_path / "wrong"
        path.write_bytes(b"wrong")
        with pytest.raises(DigestMismatchError) as caught:
            store.put_file(ABSENT, path)
        assert (caught.value.expected, caught.value.actual) == (ABSENT, Digest.of(b"wrong"))
        with pytest.raises(DigestMismatchError):
            store.put_bytes(ABSENT, b"wrong")
        assert not list(store.list())
        assert path.read_bytes() == b"wrong"

    @pytest.mark.parametrize("wrong", [b"", b"byteS", b"byte", b"bytes and more"])
    def test_damaged_bytes_are_never_given_out_whole(self, store: BlobStore, wrong: bytes) -> None:
        digest = self.put(store, b"bytes")
        self.damage(store, digest, wrong)
        for length in (None, 5, 100):
            if length is not None and length < len(wrong):
                continue  # then it is a part
            arrived: list[bytes] = []
            with pytest.raises(DigestMismatchError):
                arrived.extend(store.read(digest, length=length))
            assert not arrived

    def test_storing_again_mends(self, store: BlobStore) -> None:
        digest = self.put(store, b"bytes")
        before = store.stat(digest)
        self.damage(store, digest, b"byteS")
        self.put(store, b"bytes")
        after = store.stat(digest)
        assert self.everything(store, digest) == b"bytes"
        assert before is not None
        assert after is not None
        assert after.stored_at >= before.stored_at
        assert [found for found, _ in store.list()] == [digest]

    def test_random_reads(self, store: BlobStore) -> None:
        data = sample(2 * CHUNK_BYTES + 11)
        with store.open(self.put(store, data)) as file:
            assert file.read(8) == data[:8]
            assert file.seek(-5, os.SEEK_END) == len(data) - 5
            assert file.read() == data[-5:]
            assert file.read(1) == b""
            assert file.seek(CHUNK_BYTES - 3) == file.tell() == CHUNK_BYTES - 3
            assert file.read(6) == data[CHUNK_BYTES - 3 : CHUNK_BYTES + 3]
            assert file.seek(4, os.SEEK_CUR) == CHUNK_BYTES + 7
            assert file.read(CHUNK_BYTES) == data[CHUNK_BYTES + 7 : 2 * CHUNK_BYTES + 7]

    def test_a_reader_may_stop(self, store: BlobStore) -> None:
        digest = self.put(store, sample(4 * CHUNK_BYTES))
        chunks = store.read(digest)
        assert next(chunks)
        del chunks
        never_begun = store.read(digest)
        del never_begun
        gc.collect()  # a file or connection left open would warn, and warnings are errors
        store.delete(digest)
        assert store.stat(digest) is None

    def test_delete_is_idempotent(self, store: BlobStore) -> None:
        digest = self.put(store, b"soon gone")
        other = self.put(store, b"stays")
        store.delete(digest)
        store.delete(digest)
        store.delete(ABSENT)
        assert store.stat(digest) is None
        assert [found for found, _ in store.list()] == [other]

    def test_list_is_sorted_and_complete(self, store: BlobStore) -> None:
        stored = {self.put(store, bytes([n])): n for n in range(12)}
        store.write_record("not/a/blob.json", b"{}")
        listed = list(store.list())
        assert [digest for digest, _ in listed] == sorted(stored)
        assert {stat.size_bytes for _, stat in listed} == {1}

    def test_threads_race_to_store_the_same(self, store: BlobStore, tmp_path: Path) -> None:
        data = sample(CHUNK_BYTES + 5)
        digest = Digest.of(data)

        def put(number: int) -> bytes:
            if number % 2:
                store.put_bytes(digest, data)
            else:
                path = tmp_path / str(number)
                path.write_bytes(data)
                store.put_file(digest, path)
            return self.everything(store, digest)

        assert set(race(put, range(6))) == {data}
        assert [found for found, _ in store.list()] == [digest]

    # --- records -------------------------------------------------------------------------------

    def test_records_come_back(self, store: BlobStore) -> None:
        assert store.read_record("a/b.json") is None
        store.write_record("a/b.json", b"one")
        assert store.read_record("a/b.json") == b"one"
        store.write_record("a/b.json", b"")
        assert store.read_record("a/b.json") == b""
        assert store.read_record("a") is None
        assert store.read_record("a/b.json/c") is None

    def test_a_record_is_created_once(self, store: BlobStore) -> None:
        assert store.create_record("a/b", b"one")
        assert store.create_record("a/b", b"one")
        assert not store.create_record("a/b", b"two")
        assert store.read_record("a/b") == b"one"

    def test_threads_race_to_create_a_record(self, store: BlobStore) -> None:
        for turn in range(5):
            texts = [b"writer %d" % n for n in range(5)]
            won = race(partial(store.create_record, f"race/{turn}"), texts)
            assert sum(won) == 1
            assert store.read_record(f"race/{turn}") == texts[won.index(True)]

    def test_threads_race_to_write_a_record(self, store: BlobStore) -> None:
        texts = [sample(50_000, seed=n) for n in range(5)]
        race(partial(store.write_record, "race"), texts)
        assert store.read_record("race") in texts

    def test_deleting_a_record_is_idempotent(self, store: BlobStore) -> None:
        store.write_record("a/b", b"one")
        store.delete_record("a/b")
        store.delete_record("a/b")
        store.delete_record("never/was")
        assert store.read_record("a/b") is None
        assert store.create_record("a/b", b"two")

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", ["a-b/c", "a.json", "a/1/x", "a/1/y", "a/10", "a/2", "a0", "b"]),
            ("a", ["a-b/c", "a.json", "a/1/x", "a/1/y", "a/10", "a/2", "a0"]),
            ("a/", ["a/1/x", "a/1/y", "a/10", "a/2"]),
            ("a/1", ["a/1/x", "a/1/y", "a/10"]),
            ("a/1/", ["a/1/x", "a/1/y"]),
            ("a/1/x", ["a/1/x"]),
            ("a/1/x/", []),
            ("c", []),
            ("c/d", []),
        ],
    )
    def test_records_are_listed(self, store: BlobStore, prefix: str, expected: list[str]) -> None:
        for key in ("b", "a/2", "a/10", "a.json", "a0", "a/1/y", "a/1/x", "a-b/c"):
            store.write_record(key, key.encode())
        self.put(store, b"not a record")
        assert list(store.list_records(prefix)) == expected

    @few_examples
    @given(
        keys=st.sets(KEYS, max_size=8),
        prefix=st.text("aB0-.x/", max_size=3).filter(lambda p: not p.startswith("/")),
    )
    def test_listing_is_filtering(self, store: BlobStore, keys: set[str], prefix: str) -> None:
        base = f"h{len(list(store.list_records('h')))}/"
        keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
        for key in keys:
            store.write_record(base + key, b".")
        try:
            listed = list(store.list_records(base + prefix))
        except ValidationError:
            assert "//" in prefix or {".", ".."} & set(f"{prefix}x".split("/"))
            return
        assert listed == sorted(base + key for key in keys if key.startswith(prefix))

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_keys_are_refused(self, store: BlobStore, key: str) -> None:
        actions: list[Callable[[], object]] = [
            lambda: store.write_record(key, b"x"),
            lambda: store.create_record(key, b"x"),
            lambda: store.read_record(key),
            lambda: store.delete_record(key),
        ]
        for action in actions:
            with pytest.raises(ValidationError) as caught:
                action()
            assert caught.value.field == "record key"

    @pytest.mark.parametrize("prefix", ["/", "../", "../x", "a//", "a/../", "ä"])
    def test_bad_prefixes_are_refused(self, store: BlobStore, prefix: str) -> None:
        with pytest.raises(ValidationError):
            store.list_records(prefix)

    def test_a_record_is_small(self, store: BlobStore) -> None:
        for write in (store.write_record, store.create_record):
            with pytest.raises(ValidationError) as caught:
                write("long", bytes(MAX_RECORD_BYTES + 1))
            assert str(MAX_RECORD_BYTES) in caught.value.expected
        assert store.read_record("long") is None

    # --- upkeep --------------------------------------------------------------------------------

    def test_nothing_is_left_aside(self, store: BlobStore) -> None:
        self.put(store, b"blob")
        store.write_record("a", b"record")
        store.create_record("b", b"record")
        store.create_record("b", b"other")
        with pytest.raises(DigestMismatchError):
            store.put_bytes(ABSENT, b"wrong")
        assert store.discard_stale(older_than_s=0) == 0
        assert store.read_record("b") == b"record"

    def test_a_presigned_url_is_one_or_none(self, store: BlobStore) -> None:
        url = store.presigned_url(self.put(store, b"blob"), expires_s=60)
        assert url is None or url.startswith("http")
