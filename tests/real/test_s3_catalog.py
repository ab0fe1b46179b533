"""Keep a registry in a real bucket: push, collect, lose the database and rebuild it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from registry.refs import AdapterName, Reference
from tests.contracts.catalog_upkeep import RebuildContract
from tests.real.services import bucket, configured, s3_service
from tests.registry_kit import Place, adapter_files, push


@pytest.fixture(scope="module")
def bucket_name() -> Iterator[str]:
    service = s3_service()
    with configured(service), bucket(service) as name:
        yield name


@pytest.fixture
def place(tmp_path: Path, bucket_name: str) -> Iterator[Place]:
    place = Place(
        tmp_path,
        lambda name: f"sqlite:///{tmp_path / name}.sqlite",
        store_url=f"s3://{bucket_name}/{uuid4().hex[:8]}",
    )
    yield place
    place.close()


class TestRebuild(RebuildContract):
    """Rebuild from a bucket."""


def test_a_bucket_gives_back_what_was_pushed(place: Place) -> None:
    registry = place.open()
    files = adapter_files()
    push(registry, "team/x", files)
    for path, data in files.items():
        _, chunks = registry.adapters.open_file(Reference.parse("team/x"), path)
        assert b"".join(chunks) == data
    assert not [verdict for verdict in registry.verifier.verify() if not verdict.ok]
    registry.adapters.delete(AdapterName("team", "x"))
    place.clock.advance(10**9)
    assert len(registry.collector.collect(0).blobs) == 2
    assert list(registry.store.list()) == []
