"""Keep base models: their names, aliases and the shapes of their modules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, func, select, update

from registry.base_shapes import join_shapes
from registry.catalog.objects import insert_into
from registry.catalog.tables import adapters, base_aliases, base_models
from registry.catalog.values import Readable

Shapes: TypeAlias = Mapping[str, tuple[int, int]]
Learned: TypeAlias = Mapping[str, Shapes]
_MAX_FOLDS = 16


@dataclass(frozen=True, slots=True)
class BaseEntry:
    """Be a base model as the catalog keeps it.

    Attributes:
        number: its row.
        key: its normalised name.
        name: its canonical name.
        config: its registered configuration, as it came, or None.
        shapes: `(d_out, d_in)` by module, true for everybody.
        learned: further shapes, by the namespace whose pushes told them.
        created_at: when it was first seen (UTC).
        updated_at: when it last changed (UTC).
    """

    number: int
    key: str
    name: str
    config: str | None
    shapes: Shapes
    learned: Learned
    created_at: str
    updated_at: str

    def known_to(self, namespace: str) -> Shapes:
        """Return the shapes that hold for the pushes of a namespace."""
        return {**self.learned.get(namespace, {}), **self.shapes}


def find_base(connection: Connection, key: str, *, lock: bool = False) -> BaseEntry | None:
    """Return the base that a normalised name stands for: by alias, else by its own key."""
    query = select(base_models)
    if lock:
        query = query.with_for_update(of=base_models)
    aliased = query.join(base_aliases, base_aliases.c.base_id == base_models.c.id)
    row = connection.execute(aliased.where(base_aliases.c.key == key)).one_or_none()
    for _ in range(_MAX_FOLDS):
        if row is not None and row.merged_into is None:
            return _entry(row)
        wanted = key if row is None else row.merged_into
        row = connection.execute(query.where(base_models.c.key == wanted)).one_or_none()
        if row is None:
            return None
    return None


def learn_base(
    connection: Connection, name: str, *, key: str, namespace: str, shapes: Shapes, now: str
) -> tuple[int, bool]:
    """Return the row of a base model, made or widened by what a push tells of it.

    What a push tells holds for its namespace alone: nobody can lock others out of a base by
    pushing nonsense, nor learn from a refusal what they pushed.

    Returns:
        The row's number, and whether the base changed (and must be recorded in the store).

    Raises:
        BaseShapeError: a module has another shape in this base.
    """
    base = find_base(connection, key)
    if base is not None and not join_shapes(base.name, base.known_to(namespace), shapes):
        return base.number, False
    row = {
        "key": key,
        "name": name,
        "shapes": "{}",
        "learned": "{}",
        "created_at": now,
        "updated_at": now,
        "sequence": 0,
        "recorded": False,
    }
    if base is None:
        new = insert_into(connection, base_models).values(row)
        connection.execute(new.on_conflict_do_nothing(index_elements=["key"]))
    base = find_base(connection, key, lock=True)
    if base is None:
        message = f"base model {key!r} vanished while it was learned"
        raise RuntimeError(message)
    added = join_shapes(base.name, base.known_to(namespace), shapes)
    told = {namespace: {**base.learned.get(namespace, {}), **added}} if added else {}
    values = {"learned": json.dumps({**base.learned, **told}, sort_keys=True)}
    connection.execute(
        update(base_models).where(base_models.c.id == base.number).values(values | _next_state(now))
    )
    return base.number, True


def change_base(
    connection: Connection,
    number: int,
    *,
    now: str,
    shapes: Shapes,
    name: str | None = None,
    config: str | None = None,
) -> None:
    """Begin a new state of a base model; what is None stays as it is."""
    values: dict[str, Any] = {"shapes": json.dumps(shapes, sort_keys=True)}
    values |= {"name": name} if name is not None else {}
    values |= {"config": config} if config is not None else {}
    connection.execute(
        update(base_models).where(base_models.c.id == number).values(values | _next_state(now))
    )


def add_learned(connection: Connection, number: int, learned: Learned) -> None:
    """Let a base model know what was learned of another; its next state tells it."""
    values = {"learned": json.dumps(learned, sort_keys=True)}
    connection.execute(update(base_models).where(base_models.c.id == number).values(values))


def _next_state(now: str) -> dict[str, Any]:
    return {"updated_at": now, "sequence": base_models.c.sequence + 1, "recorded": False}


def fold_base(connection: Connection, number: int, *, into: BaseEntry, now: str) -> None:
    """Make one base model part of another: its adapters and aliases go over."""
    for table in (adapters, base_aliases):
        connection.execute(
            update(table).where(table.c.base_id == number).values(base_id=into.number)
        )
    values = {"merged_into": into.key} | _next_state(now)
    connection.execute(update(base_models).where(base_models.c.id == number).values(values))


def set_alias(connection: Connection, alias: str, *, key: str, number: int) -> None:
    """Let a spelling stand for a base model."""
    insert = insert_into(connection, base_aliases).values(key=key, alias=alias, base_id=number)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["key"], set_={"alias": alias, "base_id": number}
        )
    )


def aliases_of(connection: Connection, numbers: Sequence[int]) -> dict[int, list[str]]:
    """Return the registered aliases of base models, sorted, by row."""
    found: dict[int, list[str]] = {number: [] for number in numbers}
    query = select(base_aliases.c.base_id, base_aliases.c.alias).where(
        base_aliases.c.base_id.in_(numbers)
    )
    for row in connection.execute(query.order_by(base_aliases.c.alias)):
        found[row.base_id].append(row.alias)
    return found


def count_adapters(connection: Connection, readable: Readable) -> dict[int, int]:
    """Return how many living adapters each base has in the readable namespaces."""
    query = (
        select(adapters.c.base_id, func.count().label("number"))
        .where(adapters.c.alive, adapters.c.base_id.is_not(None))
        .group_by(adapters.c.base_id)
    )
    if readable is not None:
        query = query.where(adapters.c.namespace.in_(readable))
    return {row.base_id: int(row.number) for row in connection.execute(query)}


def list_bases(connection: Connection) -> list[BaseEntry]:
    """Return every base model that is not folded into another, by name."""
    query = select(base_models).where(base_models.c.merged_into.is_(None))
    return [_entry(row) for row in connection.execute(query.order_by(base_models.c.key))]


def base_number(connection: Connection, key: str) -> int | None:
    """Return the row of the base model with exactly this key."""
    number: int | None = connection.scalar(select(base_models.c.id).where(base_models.c.key == key))
    return number


def read_shapes(text: str) -> dict[str, tuple[int, int]]:
    """Return the shapes that a row keeps as text."""
    return {module: (d_out, d_in) for module, (d_out, d_in) in json.loads(text).items()}


def read_learned(text: str) -> dict[str, dict[str, tuple[int, int]]]:
    """Return the learned shapes that a row keeps as text, by namespace."""
    found = json.loads(text)
    return {name: {m: (a, b) for m, (a, b) in shapes.items()} for name, shapes in found.items()}


def _entry(row: Row[Any]) -> BaseEntry:
    return BaseEntry(
        number=row.id,
        key=row.key,
        name=row.name,
        config=row.config,
        shapes=read_shapes(row.shapes),
        learned=read_learned(row.learned),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
