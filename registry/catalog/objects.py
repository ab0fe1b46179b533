"""Remember what stands in the store, who sent it, and what may be collected.

An object is announced before its bytes are stored and confirmed after. Its row has a number that
is never used again: when the collector took the object in between, the confirmation finds no such
number and the upload is repeated, so nothing is acknowledged that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import TypeVar

from sqlalchemy import Connection, Table, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from registry.catalog.errors import BlobBusyError, QuotaExceededError
from registry.catalog.tables import holdings, objects
from registry.digest import Digest

T = TypeVar("T")
IN_LIMIT = 500


class ObjectKind(StrEnum):
    """Tell blobs from the manifests that stand beside them."""

    BLOB = "blob"
    MANIFEST = "manifest"


class ObjectState(StrEnum):
    """Tell what may be built upon from what is being removed."""

    PRESENT = "present"
    DELETING = "deleting"


def in_batches(items: Iterable[T], size: int = IN_LIMIT) -> Iterator[list[T]]:
    """Yield the items in lists that fit one SQL statement."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that knows ON CONFLICT, in the database's own dialect."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def announce(
    connection: Connection, digest: Digest, *, kind: ObjectKind, size_bytes: int, now: str
) -> int:
    """Say that an object is about to be stored, and return the number of its row.

    Raises:
        BlobBusyError: it is being collected at this moment.
    """
    row = {
        "kind": kind.value,
        "digest": digest.hex,
        "size_bytes": size_bytes,
        "state": ObjectState.PRESENT.value,
        "touched_at": now,
    }
    connection.execute(insert_into(connection, objects).values(row).on_conflict_do_nothing())
    found = connection.execute(
        select(objects.c.id, objects.c.state)
        .where(objects.c.digest == digest.hex, objects.c.kind == kind.value)
        .with_for_update()
    ).one_or_none()
    if found is None or found.state != ObjectState.PRESENT:
        raise BlobBusyError(digest)
    connection.execute(update(objects).where(objects.c.id == found.id).values(touched_at=now))
    return int(found.id)


def confirm(connection: Connection, number: int, *, now: str) -> bool:
    """Say that the announced object is stored; False if the collector took it meanwhile."""
    result = connection.execute(
        update(objects)
        .where(objects.c.id == number, objects.c.state == ObjectState.PRESENT.value)
        .values(touched_at=now)
    )
    return result.rowcount == 1


def hold(
    connection: Connection, namespace: str, digest: Digest, *, size_bytes: int, now: str
) -> bool:
    """Remember that a namespace sent a blob; always true."""
    insert = insert_into(connection, holdings).values(
        namespace=namespace, digest=digest.hex, size_bytes=size_bytes, touched_at=now
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["namespace", "digest"], set_={"touched_at": now}
        )
    )
    return True


def touch_held(
    connection: Connection, namespace: str, digests: Iterable[Digest], *, now: str
) -> dict[Digest, int]:
    """Return the sizes of those blobs that a namespace holds, and spare them from collection."""
    sizes: dict[Digest, int] = {}
    for batch in in_batches(sorted(set(digests))):
        wanted = [digest.hex for digest in batch]
        present = connection.execute(
            select(objects.c.digest, objects.c.id)
            .where(
                objects.c.digest.in_(wanted),
                objects.c.kind == ObjectKind.BLOB.value,
                objects.c.state == ObjectState.PRESENT.value,
            )
            .order_by(objects.c.digest)
            .with_for_update()
        ).all()
        held = connection.execute(
            update(holdings)
            .where(
                holdings.c.namespace == namespace,
                holdings.c.digest.in_([row.digest for row in present]),
            )
            .values(touched_at=now)
            .returning(holdings.c.digest, holdings.c.size_bytes)
        ).all()
        found = {row.digest: int(row.size_bytes) for row in held}
        connection.execute(
            update(objects)
            .where(objects.c.id.in_([row.id for row in present if row.digest in found]))
            .values(touched_at=now)
        )
        sizes.update({Digest(key): size for key, size in found.items()})
    return sizes


def held_bytes(connection: Connection, namespace: str) -> int:
    """Return how many bytes a namespace sent and still holds."""
    total = connection.scalar(
        select(func.sum(holdings.c.size_bytes)).where(holdings.c.namespace == namespace)
    )
    return int(total or 0)


def has_room(
    connection: Connection, namespace: str, digest: Digest, *, size_bytes: int, limit: int
) -> bool:
    """Let a namespace hold one blob more if there is room, or if it holds it already; always true.

    Raises:
        QuotaExceededError: it would hold more than it may.
    """
    wanted = held_bytes(connection, namespace) + size_bytes
    if wanted > limit and not _holds(connection, namespace, digest):
        raise QuotaExceededError(namespace, limit=limit, wanted=wanted)
    return True


def _holds(connection: Connection, namespace: str, digest: Digest) -> bool:
    query = select(holdings.c.digest).where(
        holdings.c.namespace == namespace, holdings.c.digest == digest.hex
    )
    return connection.execute(query).first() is not None


def known(connection: Connection, digests: Sequence[Digest], kind: ObjectKind) -> set[Digest]:
    """Return those of the digests that have a row of this kind, whatever its state."""
    found: set[Digest] = set()
    for batch in in_batches(digests):
        rows = connection.execute(
            select(objects.c.digest).where(
                objects.c.digest.in_([digest.hex for digest in batch]),
                objects.c.kind == kind.value,
            )
        )
        found.update(Digest(row.digest) for row in rows)
    return found


def restore_objects(
    connection: Connection, kind: ObjectKind, found: Mapping[Digest, tuple[int, str]]
) -> None:
    """Insert what the store was found to hold: size and time by digest."""
    for batch in in_batches(found.items()):
        rows = [
            {
                "kind": kind.value,
                "digest": digest.hex,
                "size_bytes": size,
                "state": ObjectState.PRESENT.value,
                "touched_at": time,
            }
            for digest, (size, time) in batch
        ]
        connection.execute(insert_into(connection, objects).values(rows).on_conflict_do_nothing())


def restore_holdings(
    connection: Connection, held: Mapping[tuple[str, Digest], tuple[int, str]]
) -> None:
    """Insert which namespaces need which blobs: size and time by namespace and digest."""
    for batch in in_batches(held.items()):
        rows = [
            {"namespace": namespace, "digest": digest.hex, "size_bytes": size, "touched_at": time}
            for (namespace, digest), (size, time) in batch
        ]
        connection.execute(insert_into(connection, holdings).values(rows).on_conflict_do_nothing())
