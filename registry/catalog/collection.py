"""Decide what may be collected: what no revision needs and nobody touched for a while.

The decision to delete an object stands in its row before the object goes. It is made while the
row is locked, by a second look at everything that could need it; whoever meets a row that is being
deleted has to wait. So a push either finds the object whole and keeps it, or sends it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from registry.catalog.objects import ObjectKind, ObjectState, insert_into
from registry.catalog.tables import adapters, files, holdings, jobs, objects, revisions
from registry.digest import Digest


@dataclass(frozen=True, slots=True)
class Candidate:
    """Be one object that may be collected.

    Attributes:
        number: its row.
        kind: blob or manifest.
        digest: which.
        size_bytes: its length.
    """

    number: int
    kind: ObjectKind
    digest: Digest
    size_bytes: int


def _needed() -> ColumnElement[bool]:
    by_file = or_(
        exists().where(files.c.digest == objects.c.digest),
        exists().where(jobs.c.checkpoint == objects.c.digest),
    )
    by_revision = exists().where(revisions.c.digest == objects.c.digest)
    return case((objects.c.kind == ObjectKind.BLOB.value, by_file), else_=by_revision)


def _idle(cutoff: str) -> ColumnElement[bool]:
    return and_(objects.c.state == ObjectState.PRESENT.value, objects.c.touched_at < cutoff)


def candidates(
    connection: Connection, *, cutoff: str, abandoned: str, after: int, limit: int
) -> list[Candidate]:
    """Return one page of what may be collected, in order of rows.

    Args:
        connection: where to look.
        cutoff: what was touched at or after this time is spared.
        abandoned: a deletion that began before this time was not finished by who began it.
        after: the last row of the page before.
        limit: how many at most.
    """
    left = and_(objects.c.state == ObjectState.DELETING.value, objects.c.touched_at < abandoned)
    rows = connection.execute(
        select(objects)
        .where(objects.c.id > after, or_(and_(_idle(cutoff), ~_needed()), left))
        .order_by(objects.c.id)
        .limit(limit)
    )
    return [
        Candidate(row.id, ObjectKind(row.kind), Digest(row.digest), int(row.size_bytes))
        for row in rows
    ]


def condemn(
    connection: Connection, found: Sequence[Candidate], *, cutoff: str, abandoned: str, now: str
) -> list[Candidate]:
    """Mark those as being deleted that may be still, and return them."""
    numbers = [candidate.number for candidate in found]
    left = and_(objects.c.state == ObjectState.DELETING.value, objects.c.touched_at < abandoned)
    locked = connection.scalars(
        select(objects.c.id)
        .where(objects.c.id.in_(numbers), or_(_idle(cutoff), left))
        .order_by(objects.c.digest)
        .with_for_update()
    ).all()
    taken = connection.execute(
        update(objects)
        .where(objects.c.id.in_(locked), ~_needed())
        .values(state=ObjectState.DELETING.value, touched_at=now)
        .returning(objects.c.id, objects.c.kind, objects.c.digest)
    ).all()
    blobs = [row.digest for row in taken if row.kind == ObjectKind.BLOB]
    connection.execute(delete(holdings).where(holdings.c.digest.in_(blobs)))
    chosen = {row.id for row in taken}
    return [candidate for candidate in found if candidate.number in chosen]


def condemn_orphan(
    connection: Connection, kind: ObjectKind, digest: Digest, *, size_bytes: int, now: str
) -> Candidate | None:
    """Mark an object that has no row as being deleted; None if somebody gave it one."""
    row = {
        "kind": kind.value,
        "digest": digest.hex,
        "size_bytes": size_bytes,
        "state": ObjectState.DELETING.value,
        "touched_at": now,
    }
    insert = insert_into(connection, objects).values(row).on_conflict_do_nothing()
    number = connection.scalar(insert.returning(objects.c.id))
    return Candidate(int(number), kind, digest, size_bytes) if number is not None else None


def forget(connection: Connection, gone: Sequence[Candidate]) -> None:
    """Remove the rows of objects that were deleted."""
    numbers = [candidate.number for candidate in gone]
    connection.execute(delete(objects).where(objects.c.id.in_(numbers)))


def idle_holdings(connection: Connection, cutoff: str) -> int:
    """Count what namespaces hold without need, untouched since the cutoff."""
    return int(connection.scalar(select(func.count()).where(_unused(cutoff))) or 0)


def drop_idle_holdings(connection: Connection, cutoff: str) -> int:
    """Let namespaces forget what they hold without need, and return how many such there were."""
    return int(connection.execute(delete(holdings).where(_unused(cutoff))).rowcount)


def _unused(cutoff: str) -> ColumnElement[bool]:
    used = exists().where(
        files.c.digest == holdings.c.digest,
        adapters.c.id == files.c.adapter_id,
        adapters.c.namespace == holdings.c.namespace,
    )
    return and_(holdings.c.touched_at < cutoff, ~used)
