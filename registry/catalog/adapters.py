"""Keep adapters: find, list, bind and delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    delete,
    func,
    or_,
    select,
    update,
)

from registry.catalog.cursors import check_limit, decode_cursor, encode_cursor
from registry.catalog.errors import BaseConflictError, KindConflictError
from registry.catalog.objects import in_batches, insert_into
from registry.catalog.refs import living_refs
from registry.catalog.tables import adapters, base_models, files, lineage, refs, revisions
from registry.catalog.values import AdapterQuery, AdapterRecord, Page
from registry.refs import AdapterName, RefKind


@dataclass(frozen=True, slots=True)
class AdapterEntry:
    """Be an adapter as a transaction needs it.

    Attributes:
        number: its row.
        kind: what it is bound to.
        base: row of the base that it is bound to, or None while unknown.
        base_name: canonical name of that base.
        alive: whether it was not deleted.
        created_at: when it was first pushed (UTC).
    """

    number: int
    kind: str
    base: int | None
    base_name: str | None
    alive: bool
    created_at: str


_ENTRY = select(
    adapters.c.id,
    adapters.c.kind,
    adapters.c.base_id,
    adapters.c.alive,
    adapters.c.created_at,
    base_models.c.name.label("base_name"),
).join(base_models, base_models.c.id == adapters.c.base_id, isouter=True)


def find_adapter(
    connection: Connection, name: AdapterName, *, lock: bool = False
) -> AdapterEntry | None:
    """Return an adapter that was not deleted, if asked held until the commit."""
    entry = _find(connection, name, lock=lock)
    return entry if entry and entry.alive else None


def _find(connection: Connection, name: AdapterName, *, lock: bool) -> AdapterEntry | None:
    query = _ENTRY.where(adapters.c.namespace == name.namespace, adapters.c.name == name.name)
    if lock:
        query = query.with_for_update(of=adapters)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return AdapterEntry(row.id, row.kind, row.base_id, row.base_name, row.alive, row.created_at)


def bind_adapter(
    connection: Connection, name: AdapterName, *, kind: str, base: int | None, now: str
) -> AdapterEntry:
    """Return the adapter, made, revived or bound to its base as needed, held until the commit.

    Raises:
        KindConflictError: it is bound to another kind.
        BaseConflictError: it is bound to another base model.
    """
    fresh = {"kind": kind, "base_id": base, "created_at": now, "updated_at": now, "alive": True}
    row = {"namespace": name.namespace, "name": name.name, "search_text": str(name).lower()}
    counts = {"revision_count": 0, "size_bytes": 0}
    new = insert_into(connection, adapters).values(row | fresh | counts)
    connection.execute(new.on_conflict_do_nothing(index_elements=["namespace", "name"]))
    entry = _find(connection, name, lock=True)
    if entry is None:
        message = f"adapter {name} vanished while it was bound"
        raise RuntimeError(message)
    if not entry.alive:
        _set(connection, entry.number, fresh)
    else:
        _check_bound(connection, name, entry, kind=kind, base=base)
        if entry.base is None and base is not None:
            _set(connection, entry.number, {"base_id": base})
    refresh_search(connection, adapters.c.id == entry.number)
    return entry


def _set(connection: Connection, number: int, values: dict[str, Any]) -> None:
    connection.execute(update(adapters).where(adapters.c.id == number).values(values))


def _check_bound(
    connection: Connection, name: AdapterName, entry: AdapterEntry, *, kind: str, base: int | None
) -> None:
    if entry.kind != kind:
        raise KindConflictError(name, expected=entry.kind, actual=kind)
    if base is not None and entry.base is not None and base != entry.base:
        actual = connection.scalar(select(base_models.c.name).where(base_models.c.id == base))
        raise BaseConflictError(name, expected=str(entry.base_name), actual=str(actual))


def refresh_search(connection: Connection, which: ColumnElement[bool]) -> None:
    """Bring what searches look at up to date, for some adapters."""
    base = (
        select(func.lower(base_models.c.name))
        .where(base_models.c.id == adapters.c.base_id)
        .scalar_subquery()
    )
    name = func.lower(adapters.c.namespace + "/" + adapters.c.name)
    query = update(adapters).values(search_text=name + " " + func.coalesce(base, ""))
    connection.execute(query.where(which))


def count_revision(connection: Connection, adapter: int, *, size_bytes: int) -> None:
    """Count one more revision, and the bytes that it adds to the adapter."""
    _set(
        connection,
        adapter,
        {
            "revision_count": adapters.c.revision_count + 1,
            "size_bytes": adapters.c.size_bytes + size_bytes,
        },
    )


def recount(connection: Connection, adapter: int) -> None:
    """Count an adapter's revisions and bytes anew, after some went."""
    number = connection.scalar(
        select(func.count()).select_from(revisions).where(revisions.c.adapter_id == adapter)
    )
    blobs = (
        select(files.c.digest, func.max(files.c.size_bytes).label("size_bytes"))
        .where(files.c.adapter_id == adapter)
        .group_by(files.c.digest)
        .subquery()
    )
    total = connection.scalar(select(func.sum(blobs.c.size_bytes)))
    _set(connection, adapter, {"revision_count": int(number or 0), "size_bytes": int(total or 0)})


def drop_revisions(connection: Connection, numbers: Sequence[int]) -> None:
    """Remove revisions with their files and edges; their blobs stay until they are collected."""
    for batch in in_batches(numbers):
        for table in (files, lineage):
            connection.execute(delete(table).where(table.c.revision_id.in_(batch)))
        connection.execute(delete(revisions).where(revisions.c.id.in_(batch)))


def bury_adapter(connection: Connection, adapter: int) -> None:
    """Mark an adapter as deleted; its row stays, so that its refs' numbers are not used again."""
    _set(connection, adapter, {"alive": False, "base_id": None, "kind": ""})
    recount(connection, adapter)


def get_adapter(connection: Connection, name: AdapterName) -> AdapterRecord | None:
    """Return what there is to show of an adapter."""
    where = and_(adapters.c.namespace == name.namespace, adapters.c.name == name.name)
    rows = connection.execute(_shown().where(where)).all()
    shown = _records(connection, rows)
    return shown[0] if shown else None


def list_adapters(
    connection: Connection, query: AdapterQuery, *, base: int | None
) -> Page[AdapterRecord]:
    """Return one page of adapters; `base` is the row that `query.base` names.

    Raises:
        ValidationError: the cursor or the limit is wrong.
    """
    found = _filtered(select(adapters.c.id).where(adapters.c.alive), query, base)
    found = found.order_by(adapters.c.namespace, adapters.c.name)
    found = found.limit(check_limit(query.limit) + 1)
    if query.cursor:
        found = found.where(*_behind(query.namespace, *decode_cursor(query.cursor, 2)))
    if query.search:
        place = func.instr if connection.dialect.name == "sqlite" else func.strpos
        found = found.where(place(adapters.c.search_text, _lower(query.search)) > 0)
    numbers = connection.scalars(found).all()
    shown_rows = _shown().where(adapters.c.id.in_(numbers))
    rows = connection.execute(shown_rows.order_by(adapters.c.namespace, adapters.c.name)).all()
    more = len(rows) > query.limit
    shown = _records(connection, rows[: query.limit])
    last = shown[-1].name if more else None
    return Page(tuple(shown), encode_cursor(last.namespace, last.name) if last else None)


def _behind(only: str | None, namespace: str, name: str) -> tuple[ColumnElement[bool], ...]:
    """Say what comes after an adapter, in the form that an index answers best."""
    if only == namespace:
        return (adapters.c.name > name,)
    later = and_(adapters.c.namespace == namespace, adapters.c.name > name)
    return (adapters.c.namespace >= namespace, or_(adapters.c.namespace > namespace, later))


def _shown() -> Select[Any]:
    return (
        select(adapters, base_models.c.name.label("base_name"))
        .join(base_models, base_models.c.id == adapters.c.base_id, isouter=True)
        .where(adapters.c.alive)
    )


def _filtered(wanted: Select[Any], query: AdapterQuery, base: int | None) -> Select[Any]:
    if query.readable is not None:
        wanted = wanted.where(adapters.c.namespace.in_(sorted(query.readable)))
    if query.namespace is not None:
        wanted = wanted.where(adapters.c.namespace == query.namespace)
    if query.kind is not None:
        wanted = wanted.where(adapters.c.kind == query.kind)
    if query.base is not None:
        wanted = wanted.where(adapters.c.base_id == base)
    return wanted


def _lower(text: str) -> str:
    """Lower ASCII letters only, which is what every database does alike."""
    return "".join(c.lower() if c.isascii() else c for c in text)


def _records(connection: Connection, rows: Sequence[Row[Any]]) -> list[AdapterRecord]:
    found = living_refs(connection, [row.id for row in rows])
    return [
        AdapterRecord(
            name=AdapterName(row.namespace, row.name),
            base_model=row.base_name,
            kind=row.kind,
            created_at=row.created_at,
            updated_at=row.updated_at,
            revisions=row.revision_count,
            size_bytes=int(row.size_bytes),
            branches=tuple(r for r in found[row.id] if r.kind is RefKind.BRANCH),
            tags=tuple(r for r in found[row.id] if r.kind is RefKind.TAG),
        )
        for row in rows
    ]


def ref_names(connection: Connection, adapter: int) -> list[str]:
    """Return the names of the living refs of an adapter."""
    rows = connection.execute(
        select(refs.c.name)
        .where(refs.c.adapter_id == adapter, refs.c.digest.is_not(None))
        .order_by(refs.c.name)
    )
    return [row.name for row in rows]
