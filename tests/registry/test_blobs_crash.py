"""Kill real processes in the middle of writing to a local store, and fill its disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from registry.digest import Digest
from registry.errors import StorageError
from registry.storage.blobs_local import LocalBlobStore
from tests.contracts.blob_store import sample
from tests.registry.killing import killed_at, small_disk, with_short_files

DATA = sample(2_500_000)
DIGEST = Digest.of(DATA)
OLD = Digest.of(b"old")
Write = Callable[[LocalBlobStore, Path], None]


def put_bytes(store: LocalBlobStore, _: Path) -> None:
    store.put_bytes(DIGEST, DATA)


def put_file(store: LocalBlobStore, path: Path) -> None:
    store.put_file(DIGEST, path)


def copy_file(store: LocalBlobStore, path: Path) -> None:
    twin = path.with_suffix(".twin")
    if not twin.exists():
        twin.hardlink_to(path)
    store.put_file(DIGEST, path)


def write_record(store: LocalBlobStore, _: Path) -> None:
    store.write_record("refs/main", b"new")


def create_record(store: LocalBlobStore, _: Path) -> None:
    store.create_record("refs/moves/0001", b"new")


def check_whole(store: LocalBlobStore, *, acknowledged: bool, write: Write) -> bool:
    """Check that all that can be seen is whole; return whether the new thing can be seen."""
    blobs = {digest: b"".join(store.read(digest)) for digest, _ in store.list()}
    assert blobs.pop(OLD) == b"old"
    assert blobs in ({}, {DIGEST: DATA})
    main, created = store.read_record("refs/main"), store.read_record("refs/moves/0001")
    assert main in {b"old", b"new"}
    assert created in {None, b"new"}
    assert set(store.list_records("")) == {"refs/main"} | (
        {"refs/moves/0001"} if created else set()
    )
    seen = bool(blobs) or main == b"new" or created is not None
    assert seen or not acknowledged, write
    return seen


def write_in_child(write: Write, root: Path, path: Path, _: Callable[[str], None]) -> None:
    """Open the store and write to it, in the child."""
    write(LocalBlobStore(root), path)


@pytest.mark.parametrize("write", [put_bytes, put_file, copy_file, write_record, create_record])
def test_a_kill_at_any_step_leaves_all_or_nothing(tmp_path: Path, write: Write) -> None:
    outcomes: list[bool] = []
    for step in itertools.count(1):
        root, path = tmp_path / f"store{step}", tmp_path / f"file{step}"
        path.write_bytes(DATA)
        before = LocalBlobStore(root)
        before.put_bytes(OLD, b"old")
        before.write_record("refs/main", b"old")
        killed = killed_at(step, partial(write_in_child, write, root, path))
        after = LocalBlobStore(root)
        outcomes.append(check_whole(after, acknowledged=not killed, write=write))
        after.discard_stale(older_than_s=0)
        assert not list((root / "aside").iterdir())
        if path.exists() or write is not put_file:
            write(after, path)  # tried again, it ends well
        assert check_whole(after, acknowledged=True, write=write)
        if not killed:
            break
    assert len(outcomes) >= 8
    assert outcomes == sorted(outcomes), "once visible, it stays"
    assert not outcomes[0]


def put_too_much(root: Path, source: Path) -> None:
    """Store what is longer than the limit, in the child."""
    store = LocalBlobStore(root)
    for write in (
        lambda: store.put_bytes(DIGEST, DATA),
        lambda: store.put_file(DIGEST, source),
        lambda: store.write_record("refs/main", DATA),
        lambda: store.create_record("refs/new", DATA),
    ):
        with pytest.raises(StorageError) as caught:
            write()
        assert "ulimit" in caught.value.hint


def test_a_limit_on_files_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    root, source = tmp_path / "store", tmp_path / "source"
    source.write_bytes(DATA)
    (tmp_path / "twin").hardlink_to(source)  # so that it is copied
    before = LocalBlobStore(root)
    before.write_record("refs/main", b"old")
    assert with_short_files(1 << 20, partial(put_too_much, root, source)) == 0
    assert not list(before.list())
    assert list(before.list_records("")) == ["refs/main"]
    assert before.read_record("refs/main") == b"old"
    assert not list((root / "aside").iterdir())
    assert source.read_bytes() == DATA


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="1m") as resize:
        store = LocalBlobStore(tmp_path / "disk" / "store")
        store.put_bytes(OLD, b"old")
        with pytest.raises(StorageError) as caught:
            store.put_bytes(DIGEST, DATA)
        assert "full" in caught.value.hint
        assert str(store.root) in caught.value.message
        assert [digest for digest, _ in store.list()] == [OLD]
        assert not list((store.root / "aside").iterdir())
        resize("8m")
        store.put_bytes(DIGEST, DATA)
        assert b"".join(store.read(DIGEST)) == DATA
