"""Run the contract over the store in memory."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from registry.digest import Digest
from registry.storage.blobs import BlobStore
from registry.storage.blobs_memory import MemoryBlobStore
from tests.contracts.blob_store import BlobStoreContract


class TestMemoryBlobStore(BlobStoreContract):
    """Be the contract over memory."""

    @pytest.fixture
    def store(self) -> BlobStore:
        return MemoryBlobStore()

    def damage(self, store: BlobStore, digest: Digest, data: bytes) -> None:
        assert isinstance(store, MemoryBlobStore)
        store._blobs[digest] = (data, datetime.now(UTC))
