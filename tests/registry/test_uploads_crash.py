"""Kill real processes in the middle of an upload, and fill the disk under it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from registry.digest import CHUNK_BYTES, Digest
from registry.errors import StorageError
from registry.storage.blobs_local import LocalBlobStore
from registry.storage.uploads import Uploads
from tests.contracts.blob_store import sample
from tests.registry.killing import killed_at, small_disk

DATA = sample(3 * CHUNK_BYTES + 17)
DIGEST = Digest.of(DATA)


def upload(root: Path, step: Callable[[str], None] = lambda _: None) -> int:
    """Continue the upload where it stands, finish it, and return what had to be sent."""
    store, uploads = LocalBlobStore(root / "store"), Uploads(root / "uploads")
    begin = uploads.offset("team", DIGEST)
    with uploads.open("team", DIGEST, offset=begin, size_bytes=len(DATA)) as session:
        for at in range(begin, len(DATA), 500_000):
            session.write(DATA[at : at + 500_000])
            step("wrote")
        session.finish(store)
    return len(DATA) - begin


def test_a_kill_at_any_step_costs_little(tmp_path: Path) -> None:
    sent: list[int] = []
    for step in itertools.count(1):
        root = tmp_path / str(step)
        killed = killed_at(step, partial(upload, root))
        store, uploads = LocalBlobStore(root / "store"), Uploads(root / "uploads")
        for digest, _ in store.list():
            assert (digest, b"".join(store.read(digest))) == (DIGEST, DATA)
        if store.stat(DIGEST) is None:
            assert killed
            sent.append(upload(root))
        assert b"".join(store.read(DIGEST)) == DATA
        assert uploads.staged_bytes() == 0
        if not killed:
            break
    assert len(sent) > 12
    assert sent == sorted(sent, reverse=True), "the later the kill, the less is sent again"
    assert (sent[0], sent[-1]) == (len(DATA), 0)


def test_a_full_disk_keeps_what_came(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="2m") as resize:
        root = tmp_path / "disk"
        with pytest.raises(StorageError) as caught:
            upload(root)
        assert "full" in caught.value.hint
        staged = Uploads(root / "uploads").offset("team", DIGEST)
        assert CHUNK_BYTES <= staged < len(DATA)
        resize("16m")
        assert upload(root) == len(DATA) - staged
        assert b"".join(LocalBlobStore(root / "store").read(DIGEST)) == DATA
