"""Hold the catalog's contracts on a real PostgreSQL server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

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

HOW = "set TEST_DATABASE_URL, as printed by a script that starts PostgreSQL on loopback"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip(f"no PostgreSQL to test with: {HOW}")
    unique = uuid4().hex[:12]
    schemas: list[str] = []
    engine = create_engine(url)

    def url_of(name: str) -> str:
        schema = f"t{unique}_{name}"
        if schema not in schemas:
            schemas.append(schema)
            with engine.begin() as connection:
                connection.execute(text(f'CREATE SCHEMA "{schema}"'))
        return f"{url}?options={quote(f'-csearch_path={schema}')}"

    place = Place(tmp_path, url_of)
    yield place
    place.close()
    with engine.begin() as connection:
        for schema in schemas:
            connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))
    engine.dispose()


class TestPushes(PushContract):
    """Push to PostgreSQL."""


class TestBinding(BindingContract):
    """Bind on PostgreSQL."""


class TestQueries(QueryContract):
    """Ask PostgreSQL."""


class TestLineage(LineageContract):
    """Walk lineage on PostgreSQL."""


class TestRemoval(RemovalContract):
    """Delete on PostgreSQL."""


class TestBases(BaseContract):
    """Keep base models on PostgreSQL."""


class TestTokens(TokenContract):
    """Keep tokens on PostgreSQL."""


class TestCollection(CollectionContract):
    """Collect garbage on PostgreSQL."""


class TestRebuild(RebuildContract):
    """Rebuild into PostgreSQL."""


class TestVerify(VerifyContract):
    """Verify from PostgreSQL."""


class TestJobs(JobContract):
    """Keep jobs on PostgreSQL."""


class TestLeases(LeaseContract):
    """Work on jobs of PostgreSQL."""


class TestJobStates(JobStateContract):
    """Move jobs on PostgreSQL."""


class TestPublication(PublicationContract):
    """Publish results on PostgreSQL."""


class TestMaps(MapContract):
    """Map over many on PostgreSQL."""
