"""Run jobs on a real PostgreSQL server while what runs them is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from tests.api.jobs.test_faults import SHORT
from tests.faults import settings_for, storm
from tests.jobs_kit import opened
from tests.real.test_postgres_catalog import HOW


@pytest.fixture
def database_url() -> Iterator[str]:
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip(f"no PostgreSQL to test with: {HOW}")
    schema = f"t{uuid4().hex[:12]}_jobs"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{schema}"'))
    yield f"{url}?options={quote(f'-csearch_path={schema}')}"
    with engine.begin() as connection:
        connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))
    engine.dispose()


@pytest.mark.slow
def test_no_job_is_lost_and_none_publishes_twice(tmp_path: Path, database_url: str) -> None:
    settings = settings_for(tmp_path / "hub", database_url)
    with opened(settings) as registry:
        damage = storm(registry, settings, SHORT)
    assert damage.wrong == []
    assert damage.killed_jobs > 0
    assert sum(damage.states.values()) == SHORT.jobs
