"""Move branches and tags, and remember which moves the store was not told of yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from registry.catalog.objects import in_batches, insert_into
from registry.catalog.tables import adapters, base_models, refs
from registry.catalog.values import RefRecord
from registry.digest import Digest
from registry.records import RefMove
from registry.refs import AdapterName, RefKind

_SHOWN = (refs.c.kind, refs.c.name, refs.c.digest, refs.c.moved_at)
_KINDS = {kind.value: kind for kind in RefKind}


@dataclass(frozen=True, slots=True)
class RefEntry:
    """Be one living or deleted ref as the catalog keeps it.

    Attributes:
        kind: branch or tag.
        name: its name.
        digest: where it points, or None once it was deleted.
    """

    kind: RefKind
    name: str
    digest: Digest | None


def lock_refs(connection: Connection, adapter: int, name: str) -> dict[RefKind, RefEntry]:
    """Return the branch and the tag of this name, deleted ones too, held until the commit."""
    rows = connection.execute(
        select(refs.c.kind, refs.c.name, refs.c.digest)
        .where(refs.c.adapter_id == adapter, refs.c.name == name)
        .with_for_update()
    )
    entries = (RefEntry(RefKind(row.kind), row.name, _digest(row.digest)) for row in rows)
    return {entry.kind: entry for entry in entries}


def find_ref(connection: Connection, adapter: int, name: str) -> RefEntry | None:
    """Return the living branch or tag of this name."""
    row = connection.execute(
        select(refs.c.kind, refs.c.name, refs.c.digest).where(
            refs.c.adapter_id == adapter, refs.c.name == name, refs.c.digest.is_not(None)
        )
    ).one_or_none()
    return RefEntry(RefKind(row.kind), row.name, Digest(row.digest)) if row else None


def move_ref(
    connection: Connection,
    adapter: int,
    *,
    kind: RefKind,
    name: str,
    digest: Digest | None,
    now: str,
) -> None:
    """Let a ref point at a revision, or at nothing; the caller holds the adapter's lock."""
    row = {
        "adapter_id": adapter,
        "kind": kind.value,
        "name": name,
        "digest": digest.hex if digest else None,
        "sequence": 1,
        "moved_at": now,
        "recorded": False,
    }
    moved = {key: row[key] for key in ("digest", "moved_at", "recorded")}
    connection.execute(
        insert_into(connection, refs)
        .values(row)
        .on_conflict_do_update(
            index_elements=["adapter_id", "kind", "name"],
            set_=moved | {"sequence": refs.c.sequence + 1},
        )
    )
    connection.execute(update(adapters).where(adapters.c.id == adapter).values(updated_at=now))


def living_refs(
    connection: Connection, adapters_wanted: Sequence[int]
) -> dict[int, list[RefRecord]]:
    """Return the refs of adapters, by row of the adapter, each list in order of name."""
    found: dict[int, list[RefRecord]] = {number: [] for number in adapters_wanted}
    for batch in in_batches(adapters_wanted):
        rows = connection.execute(
            select(refs.c.adapter_id, *_SHOWN)
            .where(refs.c.adapter_id.in_(batch), refs.c.digest.is_not(None))
            .order_by(refs.c.adapter_id, refs.c.name)
        ).all()
        for number, *shown in rows:
            found[number].append(_record(*shown))
    return found


def refs_at(
    connection: Connection, adapter: int, digests: Sequence[Digest]
) -> dict[Digest, list[RefRecord]]:
    """Return which refs of an adapter point at each of some revisions."""
    found: dict[Digest, list[RefRecord]] = {digest: [] for digest in digests}
    for batch in in_batches(digests):
        rows = connection.execute(
            select(*_SHOWN)
            .where(refs.c.adapter_id == adapter, refs.c.digest.in_([d.hex for d in batch]))
            .order_by(refs.c.name)
        ).all()
        for shown in rows:
            record = _record(*shown)
            found[record.digest].append(record)
    return found


def unrecorded_moves(
    connection: Connection, adapter: int | None = None
) -> list[tuple[int, RefMove]]:
    """Return the moves that the store was not told of yet, with the rows of their refs."""
    query = (
        select(refs, adapters.c.namespace, adapters.c.name.label("adapter_name"))
        .add_columns(adapters.c.created_at, adapters.c.kind.label("adapter_kind"))
        .add_columns(base_models.c.name.label("base_model"))
        .join(adapters, adapters.c.id == refs.c.adapter_id)
        .join(base_models, base_models.c.id == adapters.c.base_id, isouter=True)
        .where(refs.c.recorded.is_(False))
    )
    if adapter is not None:
        query = query.where(refs.c.adapter_id == adapter)
    return [(row.id, _move(row)) for row in connection.execute(query)]


def _move(row: Row[Any]) -> RefMove:
    return RefMove(
        adapter=AdapterName(row.namespace, row.adapter_name),
        kind=RefKind(row.kind),
        name=row.name,
        digest=_digest(row.digest),
        sequence=int(row.sequence),
        moved_at=row.moved_at,
        adapter_created_at=row.created_at,
        adapter_kind=row.adapter_kind,
        base_model=row.base_model,
    )


def mark_moves_recorded(connection: Connection, moves: Sequence[tuple[int, RefMove]]) -> None:
    """Note that the store was told of these moves; a later move stays to be told."""
    for number, move in moves:
        connection.execute(
            update(refs)
            .where(refs.c.id == number, refs.c.sequence == move.sequence)
            .values(recorded=True)
        )


def restore_ref(
    connection: Connection, adapter: int, move: RefMove, *, digest: Digest | None
) -> None:
    """Insert a ref as its last record tells it; `digest` is None where it points at nothing."""
    row = {
        "adapter_id": adapter,
        "kind": move.kind.value,
        "name": move.name,
        "digest": digest.hex if digest else None,
        "sequence": move.sequence,
        "moved_at": move.moved_at,
        "recorded": True,
    }
    connection.execute(insert_into(connection, refs).values(row))


def _digest(text: str | None) -> Digest | None:
    return Digest(text) if text else None


def _record(kind: str, name: str, digest: str, moved_at: str) -> RefRecord:
    return RefRecord(_KINDS[kind], name, Digest(digest), moved_at)
