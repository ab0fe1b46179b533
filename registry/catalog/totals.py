"""Count what the catalog holds, for operators."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, FromClause, func, select

from registry.catalog.objects import ObjectKind, ObjectState
from registry.catalog.tables import adapters, base_models, holdings, objects, revisions
from registry.catalog.values import Stats


def count_all(connection: Connection) -> Stats:
    """Count adapters, revisions, base models, blobs, and bytes by namespace."""
    blob = (objects.c.kind == ObjectKind.BLOB.value) & (
        objects.c.state == ObjectState.PRESENT.value
    )
    stored = select(func.coalesce(func.sum(objects.c.size_bytes), 0)).where(blob)
    sizes = select(holdings.c.namespace, func.sum(holdings.c.size_bytes).label("total"))
    rows = connection.execute(sizes.group_by(holdings.c.namespace).order_by(holdings.c.namespace))
    return Stats(
        adapters=_count(connection, adapters, adapters.c.alive),
        revisions=_count(connection, revisions),
        base_models=_count(connection, base_models, base_models.c.merged_into.is_(None)),
        blobs=_count(connection, objects, blob),
        size_bytes=int(connection.scalar(stored) or 0),
        namespaces={row.namespace: int(row.total) for row in rows},
    )


def _count(connection: Connection, table: FromClause, *where: ColumnElement[bool]) -> int:
    return int(connection.scalar(select(func.count()).select_from(table).where(*where)) or 0)
