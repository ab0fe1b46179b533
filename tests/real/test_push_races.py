"""Let real processes race for one branch, on both databases, with and without the collector."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.context import SpawnProcess
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from registry.refs import Reference
from registry.service import Registry
from tests.real.push_race import NAME, SPAWN, Course, collect, race
from tests.registry_kit import push

RACERS = 4


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'race.sqlite'}"
        return
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("no PostgreSQL to test with: set TEST_DATABASE_URL")
    schema = f"race_{uuid4().hex[:12]}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{schema}"'))
    yield f"{url}?options={quote(f'-csearch_path={schema}')}"
    with engine.begin() as connection:
        connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))
    engine.dispose()


def run(course: Course, *, expect_head: bool) -> list[SpawnProcess]:
    """Let all racers run to the end."""
    barrier = SPAWN.Barrier(RACERS, timeout=60)  # whoever fails is not waited for
    racers = [
        SPAWN.Process(target=race, args=(course, number, barrier, expect_head))
        for number in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=240)
    assert [racer.exitcode for racer in racers] == [0] * RACERS
    return racers


def messages(registry: Registry) -> list[str]:
    """Return the messages of the branch's revisions, newest first."""
    log = registry.adapters.log(Reference.parse(NAME), limit=1000).items
    for newer, older in pairwise(log):
        assert newer.manifest.parent == older.digest
    return [revision.manifest.message for revision in log]


@pytest.mark.slow
def test_one_racer_wins_each_round(database_url: str, tmp_path: Path) -> None:
    course = Course(tmp_path, database_url, rounds=8)
    registry = course.open()
    push(registry, NAME, message="start")
    run(course, expect_head=True)
    wins = [
        (int(number), racer)
        for racer in range(RACERS)
        for number in (tmp_path / f"won-{racer}").read_text().split()
    ]
    assert sorted(number for number, _ in wins) == list(range(course.rounds))
    expected = [str(racer * 1000 + number) for number, racer in sorted(wins, reverse=True)]
    assert messages(registry) == [*expected, "start"]
    assert not [verdict for verdict in registry.verifier.verify() if not verdict.ok]
    registry.close()


@pytest.mark.slow
def test_all_racers_append_while_garbage_is_collected(database_url: str, tmp_path: Path) -> None:
    course = Course(tmp_path, database_url, rounds=4)
    registry = course.open()
    push(registry, NAME, message="start")
    stop = SPAWN.Event()
    collector = SPAWN.Process(target=collect, args=(course, stop))
    collector.start()
    run(course, expect_head=False)
    stop.set()
    collector.join(timeout=60)
    assert collector.exitcode == 0
    wanted = {str(racer * 1000 + number) for racer in range(RACERS) for number in range(4)}
    found = messages(registry)
    assert len(found) == len(wanted) + 1
    assert set(found) == wanted | {"start"}
    assert not [verdict for verdict in registry.verifier.verify() if not verdict.ok]
    registry.close()
