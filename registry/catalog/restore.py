"""Fill an empty catalog with what the store's records tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from registry.base_names import base_key_if_named, base_key_of
from registry.catalog.adapters import refresh_search
from registry.catalog.base_states import restore_base
from registry.catalog.bases import base_number, find_base, set_alias
from registry.catalog.objects import restore_holdings
from registry.catalog.refs import restore_ref
from registry.catalog.revisions import insert_revision
from registry.catalog.tables import adapters, base_models, objects, revisions
from registry.digest import Digest
from registry.manifest import Manifest
from registry.records import BaseState, RefMove
from registry.refs import AdapterName


@dataclass(frozen=True, slots=True)
class RestoredAdapter:
    """Be one adapter as its records tell it.

    Attributes:
        name: which.
        moves: the last move of each of its refs, deletions too.
        heads: where each of them points: None if it was deleted, or its revision is lost.
        revisions: what can be reached, parents first.
    """

    name: AdapterName
    moves: Sequence[RefMove]
    heads: Sequence[Digest | None]
    revisions: Sequence[tuple[Digest, Manifest, str]]


def count_rows(connection: Connection) -> int:
    """Return how many rows stand in the way of a rebuild."""
    tables = (adapters, base_models, revisions, objects)
    return sum(int(connection.scalar(select(func.count()).select_from(t)) or 0) for t in tables)


def restore_bases(connection: Connection, states: Sequence[BaseState]) -> None:
    """Insert the base models, then their aliases."""
    for state in states:
        restore_base(connection, state)
    for state in states:
        number = base_number(connection, state.key)
        for alias in state.aliases if number is not None else ():
            set_alias(connection, alias, key=base_key_of(alias), number=number or 0)


def restore_adapter(connection: Connection, found: RestoredAdapter) -> None:
    """Insert one adapter with its refs and revisions."""
    bound = _bound(found)
    alive = any(found.heads)
    key = base_key_if_named(bound.base_model) if alive else None
    base = find_base(connection, key) if key else None
    row = {
        "namespace": found.name.namespace,
        "name": found.name.name,
        "search_text": "",
        "base_id": base.number if base else None,
        "kind": bound.adapter_kind if alive else "",
        "created_at": bound.adapter_created_at,
        "updated_at": max(move.moved_at for move in found.moves),
        "alive": alive,
        "revision_count": 0,
        "size_bytes": 0,
    }
    insertion = insert(adapters).values(row).returning(adapters.c.id)
    number = int(connection.scalar(insertion) or 0)
    for move, head in zip(found.moves, found.heads, strict=True):
        restore_ref(connection, number, move, digest=head)
    held: dict[tuple[str, Digest], tuple[int, str]] = {}
    for digest, manifest, text in found.revisions:
        insert_revision(connection, number, digest=digest, manifest=manifest, text=text)
        for file in manifest.files:
            held[found.name.namespace, file.digest] = (file.size_bytes, manifest.created_at)
    restore_holdings(connection, held)
    refresh_search(connection, adapters.c.id == number)


def _bound(found: RestoredAdapter) -> RefMove:
    """Return the move that tells best what the adapter is bound to in its present life.

    An adapter that was deleted and pushed again began anew; once bound to a base it stays so.
    """
    return max(
        found.moves,
        key=lambda move: (
            move.adapter_kind != "",
            move.adapter_created_at,
            move.base_model is not None,
            move.moved_at,
        ),
    )
