"""Run the contract over the store in a folder, and check what only a folder has."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.digest import Digest
from registry.errors import StorageError
from registry.storage.blobs import BlobStore
from registry.storage.blobs_local import LocalBlobStore
from tests.contracts.blob_store import BlobStoreContract, sample


def files_below(folder: Path) -> list[str]:
    """Name every file below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


class TestLocalBlobStore(BlobStoreContract):
    """Be the contract over a folder."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        return LocalBlobStore(tmp_path / "store")

    def damage(self, store: BlobStore, digest: Digest, data: bytes) -> None:
        path = blob_path(store, digest)
        path.chmod(0o600)
        path.write_bytes(data)


def blob_path(store: BlobStore, digest: Digest) -> Path:
    """Return where a local store keeps a blob."""
    assert isinstance(store, LocalBlobStore)
    folder = store.root / "blobs" / "sha256" / digest.hex[:2] / digest.hex[2:4]
    return folder / digest.hex


@pytest.fixture
def local(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "store")


def test_a_blob_stands_where_its_digest_says(local: LocalBlobStore) -> None:
    digest = Digest.of(b"blob")
    local.put_bytes(digest, b"blob")
    local.write_record("team/sql/main.json", b"{}")
    assert files_below(local.root) == [
        f"blobs/sha256/{digest.hex[:2]}/{digest.hex[2:4]}/{digest.hex}",
        "records/team/sql/main.json",
    ]


def test_only_the_owner_can_read(local: LocalBlobStore) -> None:
    umask = os.umask(0)
    try:
        local.put_bytes(Digest.of(b"blob"), b"blob")
        local.write_record("a/b", b"record")
    finally:
        os.umask(umask)
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in local.root.rglob("*")}
    assert modes == {0}


def test_a_blob_is_read_only(local: LocalBlobStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"moved")
    path.chmod(0o644)
    local.put_file(Digest.of(b"moved"), path)
    local.put_bytes(Digest.of(b"written"), b"written")
    for data in (b"moved", b"written"):
        mode = blob_path(local, Digest.of(data)).stat().st_mode
        assert stat.S_IMODE(mode) == 0o400


def test_a_file_is_moved_not_copied(local: LocalBlobStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    inode = path.stat().st_ino
    local.put_file(Digest.of(b"data"), path)
    assert not path.exists()
    assert blob_path(local, Digest.of(b"data")).stat().st_ino == inode


@pytest.mark.parametrize("kind", ["hard link", "symbolic link"])
def test_a_file_with_two_names_is_copied(local: LocalBlobStore, tmp_path: Path, kind: str) -> None:
    original, path = tmp_path / "original", tmp_path / "file"
    original.write_bytes(b"data")
    if kind == "hard link":
        path.hardlink_to(original)
    else:
        path.symlink_to(original)
    local.put_file(Digest.of(b"data"), path)
    original.write_bytes(b"changed")
    assert b"".join(local.read(Digest.of(b"data"))) == b"data"
    assert not blob_path(local, Digest.of(b"data")).is_symlink()


@pytest.fixture
def other_filesystem() -> Iterator[Path]:
    """Give a file's place on another filesystem, or skip."""
    folder = Path("/dev/shm")
    if not folder.is_dir() or folder.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("needs a second filesystem at /dev/shm")
    path = folder / f"ternery-test-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


def test_a_file_of_another_filesystem_is_copied(
    local: LocalBlobStore, other_filesystem: Path
) -> None:
    data = sample(2_500_000)
    other_filesystem.write_bytes(data)
    local.put_file(Digest.of(data), other_filesystem)
    assert b"".join(local.read(Digest.of(data))) == data
    assert local.discard_stale(older_than_s=0) == 0


def test_strangers_are_passed_over(local: LocalBlobStore) -> None:
    digest = Digest.of(b"blob")
    local.put_bytes(digest, b"blob")
    path = blob_path(local, digest)
    (path.parent / "notes.txt").write_bytes(b"?")
    (path.parent / digest.hex.upper()).write_bytes(b"?")
    (path.parent.parent / "file").write_bytes(b"?")
    (path.parent / ("0" * 64)).mkdir()
    assert [found for found, _ in local.list()] == [digest]


def test_two_stores_share_a_folder(tmp_path: Path) -> None:
    one, two = LocalBlobStore(tmp_path), LocalBlobStore(tmp_path)
    one.put_bytes(Digest.of(b"1"), b"1")
    assert b"".join(two.read(Digest.of(b"1"))) == b"1"
    assert one.create_record("a", b"one")
    assert not two.create_record("a", b"two")


def test_a_reader_keeps_what_is_deleted_meanwhile(local: LocalBlobStore) -> None:
    data = sample(3_000_000)
    local.put_bytes(Digest.of(data), data)
    chunks = local.read(Digest.of(data))
    local.delete(Digest.of(data))
    assert b"".join(chunks) == data


def test_leftovers_go_when_they_are_old_enough(local: LocalBlobStore) -> None:
    old, new = local.root / "aside" / "old.part", local.root / "aside" / "new.part"
    old.write_bytes(b"?")
    new.write_bytes(b"?")
    os.utime(old, (1, 1))
    assert local.discard_stale(older_than_s=3600) == 1
    assert files_below(local.root) == ["aside/new.part"]


def test_a_record_in_the_way_is_said(local: LocalBlobStore) -> None:
    local.write_record("a", b"1")
    with pytest.raises(StorageError) as caught:
        local.write_record("a/b", b"2")
    assert "records/a" in str(caught.value)
    assert local.read_record("a") == b"1"


def test_a_missing_file_is_named(local: LocalBlobStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        local.put_file(Digest.of(b""), tmp_path / "absent")
    assert str(tmp_path / "absent") in caught.value.message
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file")
    with pytest.raises(StorageError) as caught:
        LocalBlobStore(tmp_path / "store")
    assert str(tmp_path / "store") in caught.value.message


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_without_rights_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StorageError) as caught:
        LocalBlobStore(tmp_path / "locked" / "store")
    assert "right" in caught.value.hint
