"""Test that the questions asked most are answered from indexes, without sorting or N+1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from registry.catalog.cursors import encode_cursor
from registry.catalog.values import AdapterQuery
from registry.digest import Digest
from registry.jobs.values import JobQuery
from registry.refs import AdapterName, Reference
from registry.service import Registry
from tests.registry_kit import Place, adapter_files, push

NAME = AdapterName("team", "x3")
BEHIND = encode_cursor("team", "x1")
Query = tuple[str, tuple[object, ...]]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder: Path = tmp_path_factory.mktemp("plans")
    place = Place(folder, lambda name: f"sqlite:///{folder / name}.sqlite")
    registry = place.open()
    for number in range(6):
        push(registry, f"team/x{number}", adapter_files(0), message=str(number))
    push(registry, str(NAME), adapter_files(1), tags=("v1",))
    yield registry
    place.close()


def statements(registry: Registry, ask: Callable[[], object]) -> list[Query]:
    """Return the queries that a question runs."""
    seen: list[Query] = []

    def note(_c: object, _k: object, sql: str, values: tuple[object, ...], *_: object) -> None:
        if sql.lstrip().startswith(("SELECT", "WITH")):
            seen.append((sql, values))

    event.listen(registry.database.engine, "before_cursor_execute", note)
    try:
        ask()
    finally:
        event.remove(registry.database.engine, "before_cursor_execute", note)
    return seen


def plan(registry: Registry, sql: str, values: tuple[object, ...]) -> list[str]:
    """Return how SQLite means to answer a query."""
    raw = registry.database.engine.raw_connection()
    try:
        return [row[3] for row in raw.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    finally:
        raw.close()


QUESTIONS: dict[str, Callable[[Registry], object]] = {
    "list": lambda r: r.adapters.list(AdapterQuery()),
    "deep": lambda r: r.adapters.list(AdapterQuery(cursor=BEHIND)),
    "namespace": lambda r: r.adapters.list(AdapterQuery(namespace="team", cursor=BEHIND)),
    "base": lambda r: r.adapters.list(AdapterQuery(base="tiny", cursor=BEHIND)),
    "kind": lambda r: r.adapters.list(AdapterQuery(kind="LORA", cursor=BEHIND)),
    "readable": lambda r: r.adapters.list(AdapterQuery(readable=frozenset({"team"}))),
    "search": lambda r: r.adapters.list(AdapterQuery(search="x")),
    "jobs": lambda r: r.jobs.list(JobQuery()),
    "jobs of a map": lambda r: r.jobs.list(JobQuery(parent="0" * 16, cursor=encode_cursor("9"))),
    "jobs that wait": lambda r: r.leases.claim("x", lease_s=1),
    "jobs that fell silent": lambda r: r.leases.expire(),
    "get": lambda r: r.adapters.get(NAME),
    "resolve": lambda r: r.adapters.resolve(Reference(NAME, "v1")),
    "blob": lambda r: r.adapters.find_blob(
        NAME, Digest.of(adapter_files(1)["adapter_model.safetensors"])
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_from_indexes(registry: Registry, question: str) -> None:
    asked = statements(registry, lambda: QUESTIONS[question](registry))
    assert 1 <= len(asked) <= 5
    for sql, values in asked:
        for step in plan(registry, sql, values):
            one_page = "refs" in sql or "adapters.id IN" in sql
            assert "TEMP B-TREE" not in step or one_page, (sql, step)
            assert not step.startswith("SCAN") or "USING" in step, (sql, step)


def test_a_log_is_walked_not_scanned(registry: Registry) -> None:
    asked = statements(registry, lambda: registry.adapters.log(Reference(NAME)))
    steps = [step for sql, values in asked for step in plan(registry, sql, values)]
    assert not [s for s in steps if s.startswith(("SCAN revisions", "SCAN refs"))]


def test_the_number_of_queries_does_not_grow_with_the_page(registry: Registry) -> None:
    def count(limit: int) -> int:
        return len(statements(registry, lambda: registry.adapters.list(AdapterQuery(limit=limit))))

    assert count(1) == count(6)

    def count_log(limit: int) -> int:
        return len(
            statements(registry, lambda: registry.adapters.log(Reference(NAME), limit=limit))
        )

    assert count_log(1) == count_log(2)
