"""Tell the store what became of base models, and take it back from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from registry.catalog.bases import aliases_of, read_learned, read_shapes
from registry.catalog.objects import insert_into
from registry.catalog.tables import base_models
from registry.records import BaseState


def unrecorded_bases(connection: Connection, number: int | None = None) -> list[BaseState]:
    """Return the states that the store was not told of yet: of one base, or of all."""
    query = select(base_models).where(base_models.c.recorded.is_(False))
    if number is not None:
        query = query.where(base_models.c.id == number)
    rows = connection.execute(query).all()
    names = aliases_of(connection, [row.id for row in rows])
    return [_state(row, names[row.id]) for row in rows]


def mark_base_recorded(connection: Connection, states: Sequence[BaseState]) -> None:
    """Note that the store was told of these states; a later state stays to be told."""
    for state in states:
        connection.execute(
            update(base_models)
            .where(base_models.c.key == state.key, base_models.c.sequence == state.sequence)
            .values(recorded=True)
        )


def restore_base(connection: Connection, state: BaseState) -> None:
    """Insert a base model as its record tells it."""
    row = {
        "key": state.key,
        "name": state.name,
        "config": state.config,
        "shapes": json.dumps(state.shapes, sort_keys=True),
        "learned": json.dumps(state.learned, sort_keys=True),
        "merged_into": state.merged_into,
        "created_at": state.created_at,
        "updated_at": state.updated_at,
        "sequence": state.sequence,
        "recorded": True,
    }
    connection.execute(insert_into(connection, base_models).values(row))


def _state(row: Row[Any], names: Sequence[str]) -> BaseState:
    return BaseState(
        key=row.key,
        name=row.name,
        aliases=tuple(names),
        config=row.config,
        shapes=read_shapes(row.shapes),
        merged_into=row.merged_into,
        created_at=row.created_at,
        updated_at=row.updated_at,
        sequence=row.sequence,
        learned=read_learned(row.learned),
    )
