"""Open the catalog's database, SQLite or PostgreSQL, and run transactions on it.

On SQLite every write begins with `BEGIN IMMEDIATE`, so that what a transaction reads is what it
writes on; on PostgreSQL the catalog locks the rows that it decides on. `Database.write` runs its
work again when the database chose it as the victim of a deadlock: work must have no other effect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from registry.errors import StorageError

if TYPE_CHECKING:
    from alembic.config import Config

T = TypeVar("T")
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 60_000
ATTEMPTS = 8
_RETRYABLE = frozenset({"40001", "40P01"})  # serialization failure, deadlock detected
_MIGRATION_LOCK = 0x7E26E21
_WRITES = "registry_writes"


class DatabaseError(StorageError):
    """Say that the database failed; the driver's own error is its cause."""


class Database:
    """Run reads and writes on one engine; safe to share among threads."""

    def __init__(self, url: str) -> None:
        self.engine = _open_engine(url)

    @property
    def is_sqlite(self) -> bool:
        """Tell whether this is the embedded database."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection on which to read; what is read together is one snapshot on SQLite.

        Raises:
            DatabaseError: the database failed.
        """
        with _wrapped(), self.engine.connect() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and return its result once that is committed.

        Raises:
            DatabaseError: the database failed, or was too busy for too long.
        """
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._write_once(work)
            except DatabaseError as error:
                if not _retryable(error):
                    raise
            time.sleep(0.01 * 2**attempt)
        return self._write_once(work)

    def _write_once(self, work: Callable[[Connection], T]) -> T:
        with _wrapped(), self.engine.connect() as plain:
            connection = plain.execution_options(**{_WRITES: True})
            with connection.begin():
                return work(connection)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def migrate(database: Database) -> None:
    """Bring the tables to the present layout; many processes may do so at once.

    Raises:
        DatabaseError: the database failed.
    """
    from alembic import command  # noqa: PLC0415 -- slow to import, needed once

    def upgrade(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        command.upgrade(migration_config(connection), "head")

    database.write(upgrade)


def migration_config(connection: Connection) -> Config:
    """Return Alembic's configuration for this connection; there is no `alembic.ini`."""
    from alembic.config import Config  # noqa: PLC0415 -- slow to import, needed once

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        raise DatabaseError(
            f"the database failed: {reason.strip()[:500]}",
            hint="check ADAPTERS_DATABASE_URL, the server and the free space on its disk",
        ) from error


def _retryable(error: DatabaseError) -> bool:
    cause = error.__cause__
    state = getattr(cause.orig, "sqlstate", None) if isinstance(cause, DBAPIError) else None
    return state in _RETRYABLE


def _open_engine(text: str) -> Engine:
    url = make_url(text)
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_size=10, max_overflow=20, pool_pre_ping=True)
    if url.database and url.database != ":memory:":
        _make_private(Path(url.database))
    engine = create_engine(url, pool_size=16, max_overflow=64)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """Make the file, if it is new, for its owner alone; SQLite gives its log the same rights."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseError(
            f"cannot open the database {path}: {error.strerror}",
            hint="check ADAPTERS_DATABASE_URL and who may write there",
        ) from error


def _set_up_sqlite(raw: Any, _record: object) -> None:  # noqa: ANN401 -- the driver's own type
    raw.isolation_level = None  # the begin event below says BEGIN itself
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",  # an acknowledged push survives a power cut, not only a kill
        "foreign_keys=ON",
        "cache_size=-32768",
    ):
        raw.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
