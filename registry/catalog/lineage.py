"""Walk the graph of what was made from what, one query per generation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, select

from registry.catalog.objects import in_batches
from registry.catalog.tables import adapters, lineage, revisions
from registry.catalog.values import GraphEdge, Readable
from registry.digest import Digest
from registry.manifest import LineageEdge, Operation
from registry.refs import AdapterName

MAX_EDGES = 1000
MAX_DISTANCE = 32


@dataclass(frozen=True, slots=True)
class Walk:
    """Be the edges that were found, nearest first, and whether there are more."""

    edges: tuple[GraphEdge, ...]
    truncated: bool


def ancestors(connection: Connection, start: Digest, readable: Readable) -> Walk:
    """Return the edges from a revision towards its sources, as far as they may be read."""
    return _walk(connection, start, readable, up=True)


def descendants(connection: Connection, start: Digest, readable: Readable) -> Walk:
    """Return the edges towards what was made from a revision, as far as they may be read."""
    return _walk(connection, start, readable, up=False)


def _walk(connection: Connection, start: Digest, readable: Readable, *, up: bool) -> Walk:
    found: list[GraphEdge] = []
    seen, front = {start}, [start]
    for distance in range(1, MAX_DISTANCE + 1):
        edges = [_edge(row, distance) for row in _step(connection, front, readable, up=up)]
        found.extend(edges)
        if len(found) > MAX_EDGES:
            return Walk(tuple(found[:MAX_EDGES]), truncated=True)
        ends = {edge.edge.revision if up else edge.child for edge in edges}
        front = sorted(ends - seen)
        if not front:
            return Walk(tuple(found), truncated=False)
        seen |= ends
    return Walk(tuple(found), truncated=True)


def _step(
    connection: Connection, front: Sequence[Digest], readable: Readable, *, up: bool
) -> Iterator[Row[Any]]:
    near = revisions.c.digest if up else lineage.c.source_digest
    far = lineage.c.source_namespace if up else adapters.c.namespace
    for batch in in_batches(front):
        query = (
            select(lineage, revisions.c.digest, adapters.c.namespace, adapters.c.name)
            .join(revisions, revisions.c.id == lineage.c.revision_id)
            .join(adapters, adapters.c.id == revisions.c.adapter_id)
            .where(near.in_([digest.hex for digest in batch]))
            .order_by(adapters.c.namespace, adapters.c.name, revisions.c.digest)
            .order_by(lineage.c.position)
            .limit(MAX_EDGES + 1)
        )
        yield from connection.execute(_visible(query, far, readable))


def _visible(query: Select[Any], far: ColumnElement[str], readable: Readable) -> Select[Any]:
    return query if readable is None else query.where(far.in_(sorted(readable)))


def _edge(row: Row[Any], distance: int) -> GraphEdge:
    edge = LineageEdge(
        operation=Operation(row.operation),
        adapter=AdapterName(row.source_namespace, row.source_name),
        revision=Digest(row.source_digest),
        weight=row.weight,
        parameters=json.loads(row.parameters),
    )
    return GraphEdge(AdapterName(row.namespace, row.name), Digest(row.digest), edge, distance)
