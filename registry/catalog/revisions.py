"""Keep revisions: insert them whole, find them, and walk from one to its parent."""

from __future__ import annotations

import json

from sqlalchemy import Connection, insert, literal, select

from registry.catalog.adapters import count_revision, drop_revisions, recount
from registry.catalog.objects import in_batches
from registry.catalog.tables import files, lineage, refs, revisions
from registry.digest import Digest
from registry.manifest import Manifest
from registry.manifest_json import decode


def insert_revision(
    connection: Connection, adapter: int, *, digest: Digest, manifest: Manifest, text: str
) -> bool:
    """Insert a revision with its files and edges; False if it is there already."""
    there = select(revisions.c.id).where(revisions.c.digest == digest.hex)
    if connection.execute(there).one_or_none() is not None:
        return False
    row = {
        "adapter_id": adapter,
        "digest": digest.hex,
        "parent": manifest.parent.hex if manifest.parent else None,
        "created_at": manifest.created_at,
        "size_bytes": manifest.size_bytes,
        "manifest": text,
    }
    number = connection.scalar(insert(revisions).values(row).returning(revisions.c.id))
    count_revision(connection, adapter, size_bytes=_new_bytes(connection, adapter, manifest))
    for batch in in_batches(_file_rows(manifest, adapter=adapter, number=int(number or 0))):
        connection.execute(insert(files), batch)
    edges = _edge_rows(manifest, number=int(number or 0))
    if edges:
        connection.execute(insert(lineage), edges)
    return True


def _new_bytes(connection: Connection, adapter: int, manifest: Manifest) -> int:
    """Return the bytes of those files that no revision of the adapter has yet."""
    sizes = {entry.digest.hex: entry.size_bytes for entry in manifest.files}
    known: set[str] = set()
    for batch in in_batches(sizes):
        known.update(
            connection.scalars(
                select(files.c.digest)
                .where(files.c.digest.in_(batch), files.c.adapter_id == adapter)
                .distinct()
            )
        )
    return sum(size for digest, size in sizes.items() if digest not in known)


def _file_rows(manifest: Manifest, *, adapter: int, number: int) -> list[dict[str, object]]:
    return [
        {
            "revision_id": number,
            "path": entry.path,
            "adapter_id": adapter,
            "digest": entry.digest.hex,
            "size_bytes": entry.size_bytes,
        }
        for entry in manifest.files
    ]


def _edge_rows(manifest: Manifest, *, number: int) -> list[dict[str, object]]:
    return [
        {
            "revision_id": number,
            "position": position,
            "operation": edge.operation.value,
            "source_namespace": edge.adapter.namespace,
            "source_name": edge.adapter.name,
            "source_digest": edge.revision.hex,
            "weight": edge.weight,
            "parameters": json.dumps(dict(edge.parameters), sort_keys=True),
        }
        for position, edge in enumerate(manifest.lineage)
    ]


def load_revision(connection: Connection, adapter: int, digest: Digest) -> Manifest | None:
    """Return the manifest of a revision of this adapter."""
    text = connection.scalar(
        select(revisions.c.manifest).where(
            revisions.c.digest == digest.hex, revisions.c.adapter_id == adapter
        )
    )
    return decode(text.encode()) if text else None


def find_by_prefix(connection: Connection, adapter: int, commit_id: str) -> list[Digest]:
    """Return the revisions of an adapter whose digest begins so."""
    rows = connection.scalars(
        select(revisions.c.digest)
        .where(revisions.c.digest >= commit_id, revisions.c.digest < commit_id + "g")
        .where(revisions.c.adapter_id == adapter)
        .limit(2)
    )
    return [Digest(text) for text in rows]


def walk(
    connection: Connection, adapter: int, start: Digest, *, limit: int
) -> list[tuple[Digest, Manifest]]:
    """Return a revision and those before it, newest first, at most `limit`."""
    chain = (
        select(revisions.c.digest, revisions.c.parent, literal(1).label("depth"))
        .where(revisions.c.digest == start.hex, revisions.c.adapter_id == adapter)
        .cte("chain", recursive=True)
    )
    chain = chain.union_all(
        select(revisions.c.digest, revisions.c.parent, chain.c.depth + 1).where(
            revisions.c.digest == chain.c.parent,
            revisions.c.adapter_id == adapter,
            chain.c.depth < limit,
        )
    )
    rows = connection.execute(
        select(revisions.c.digest, revisions.c.manifest)
        .join(chain, chain.c.digest == revisions.c.digest)
        .order_by(chain.c.depth)
    )
    return [(Digest(row.digest), decode(row.manifest.encode())) for row in rows]


def prune_unreachable(connection: Connection, adapter: int) -> list[Digest]:
    """Remove the revisions that no living ref of the adapter reaches, and return them."""
    rows = connection.execute(
        select(revisions.c.id, revisions.c.digest, revisions.c.parent).where(
            revisions.c.adapter_id == adapter
        )
    ).all()
    parents = {row.digest: row.parent for row in rows}
    heads = connection.scalars(
        select(refs.c.digest).where(refs.c.adapter_id == adapter, refs.c.digest.is_not(None))
    )
    kept: set[str] = set()
    for head in heads:
        at: str | None = head
        while at and at in parents and at not in kept:
            kept.add(at)
            at = parents[at]
    gone = [row for row in rows if row.digest not in kept]
    drop_revisions(connection, [row.id for row in gone])
    if gone:
        recount(connection, adapter)
    return [Digest(row.digest) for row in gone]


def blob_of(connection: Connection, adapter: int, digest: Digest) -> tuple[str, int] | None:
    """Return the path and size under which some revision of the adapter has this blob."""
    row = connection.execute(
        select(files.c.path, files.c.size_bytes)
        .where(files.c.digest == digest.hex, files.c.adapter_id == adapter)
        .limit(1)
    ).one_or_none()
    return (row.path, int(row.size_bytes)) if row else None


def revision_page(
    connection: Connection, *, after: int, limit: int
) -> list[tuple[int, Digest, Manifest]]:
    """Return revisions of all adapters in order of their rows, for a walk over everything."""
    rows = connection.execute(
        select(revisions.c.id, revisions.c.digest, revisions.c.manifest)
        .where(revisions.c.id > after)
        .order_by(revisions.c.id)
        .limit(limit)
    )
    return [(row.id, Digest(row.digest), decode(row.manifest.encode())) for row in rows]
