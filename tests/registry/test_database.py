"""Test how the database is opened, migrated and written to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, inspect, select, text
from sqlalchemy.exc import DBAPIError

from registry.catalog.database import ATTEMPTS, Database, DatabaseError, migrate, migration_config
from registry.catalog.tables import audit, metadata
from registry.errors import StorageError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'sub' / 'x.sqlite'}")
    yield database
    database.close()


def test_nobody_else_reads_the_file_even_in_an_open_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    database = Database(f"sqlite:///{tmp_path / 'x.sqlite'}")
    migrate(database)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    database.close()


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    migrate(database)
    migrate(database)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrations_can_be_taken_back(database: Database) -> None:
    migrate(database)
    database.write(lambda c: command.downgrade(migration_config(c), "base"))
    with database.read() as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
    migrate(database)


def test_many_may_migrate_at_once(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path / 'x.sqlite'}") for _ in range(4)]
    threads = [threading.Thread(target=migrate, args=(d,)) for d in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with databases[0].read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    for each in databases:
        each.close()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2), ("busy_timeout", 60_000)],
)
def test_the_embedded_database_is_careful(database: Database, pragma: str, value: object) -> None:
    with database.read() as connection:
        assert connection.execute(text(f"PRAGMA {pragma}")).scalar() == value


def insert_one(connection: Connection) -> None:
    connection.execute(
        audit.insert().values(time="t", principal="", action="a", subject="s", digest=None)
    )


def count(database: Database) -> int:
    with database.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(audit)) or 0)


def test_what_fails_leaves_nothing(database: Database) -> None:
    migrate(database)

    def work(connection: Connection) -> None:
        insert_one(connection)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        database.write(work)
    assert count(database) == 0
    database.write(insert_one)
    assert count(database) == 1


def test_writers_wait_for_one_another(database: Database) -> None:
    migrate(database)

    def read_then_write(connection: Connection) -> None:
        seen = connection.scalar(select(func.count()).select_from(audit))
        connection.execute(
            audit.insert().values(
                time=f"{seen}", principal="", action="a", subject="s", digest=None
            )
        )

    threads = [
        threading.Thread(target=lambda: [database.write(read_then_write) for _ in range(5)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        seen = sorted(int(t) for t in connection.scalars(select(audit.c.time)))
    assert seen == list(range(20))


class VictimError(Exception):
    """Be a driver's error with a state."""

    sqlstate = "40P01"


def test_a_victim_of_a_deadlock_tries_again(database: Database) -> None:
    calls = []

    def work(connection: Connection) -> str:
        calls.append(connection)
        if len(calls) < 3:
            raise DBAPIError("x", None, VictimError())
        return "done"

    assert database.write(work) == "done"
    assert len(calls) == 3


def test_trying_again_has_an_end(database: Database) -> None:
    calls = []

    def work(connection: Connection) -> None:
        calls.append(connection)
        raise DBAPIError("x", None, VictimError())

    with pytest.raises(DatabaseError):
        database.write(work)
    assert len(calls) == ATTEMPTS


def test_the_drivers_errors_are_ours(database: Database) -> None:
    with pytest.raises(DatabaseError, match="no such table") as caught:
        count(database)
    assert isinstance(caught.value, StorageError)
    assert "ADAPTERS_DATABASE_URL" in caught.value.hint
    with pytest.raises(DatabaseError, match="no such table"):
        database.write(insert_one)


def test_postgresql_may_be_named_shortly() -> None:
    url = os.environ.get("TEST_DATABASE_URL", "postgresql+psycopg://u@127.0.0.1:1/x")
    database = Database(url.replace("+psycopg", ""))
    assert database.engine.dialect.driver == "psycopg"
    assert not database.is_sqlite
    database.close()


def test_a_server_that_is_not_there_is_named() -> None:
    database = Database("postgresql://u@127.0.0.1:1/x")
    with pytest.raises(DatabaseError, match="database failed"), database.read():
        pass
    database.close()
