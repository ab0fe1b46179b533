"""Hold the catalog's contracts on the embedded database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.catalog_bases import BaseContract
from tests.contracts.catalog_jobs import (
    JobContract,
    JobStateContract,
    LeaseContract,
    MapContract,
    PublicationContract,
)
from tests.contracts.catalog_pushes import BindingContract, PushContract
from tests.contracts.catalog_queries import LineageContract, QueryContract
from tests.contracts.catalog_removal import RemovalContract
from tests.contracts.catalog_tokens import TokenContract
from tests.contracts.catalog_upkeep import CollectionContract, RebuildContract, VerifyContract
from tests.registry_kit import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, lambda name: f"sqlite:///{tmp_path / name}.sqlite")
    yield place
    place.close()


class TestPushes(PushContract):
    """Push to SQLite."""


class TestBinding(BindingContract):
    """Bind on SQLite."""


class TestQueries(QueryContract):
    """Ask SQLite."""


class TestLineage(LineageContract):
    """Walk lineage on SQLite."""


class TestRemoval(RemovalContract):
    """Delete on SQLite."""


class TestBases(BaseContract):
    """Keep base models on SQLite."""


class TestTokens(TokenContract):
    """Keep tokens on SQLite."""


class TestCollection(CollectionContract):
    """Collect garbage on SQLite."""


class TestRebuild(RebuildContract):
    """Rebuild into SQLite."""


class TestVerify(VerifyContract):
    """Verify from SQLite."""


class TestJobs(JobContract):
    """Keep jobs on SQLite."""


class TestLeases(LeaseContract):
    """Work on jobs of SQLite."""


class TestJobStates(JobStateContract):
    """Move jobs on SQLite."""


class TestPublication(PublicationContract):
    """Publish results on SQLite."""


class TestMaps(MapContract):
    """Map over many on SQLite."""
