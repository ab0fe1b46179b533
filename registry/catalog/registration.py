"""Register a base model: name it, give it aliases, and fold together what turns out to be one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from registry.base_names import base_key_of
from registry.base_shapes import join_shapes
from registry.catalog.adapters import refresh_search
from registry.catalog.audit import append_audit
from registry.catalog.bases import (
    BaseEntry,
    Shapes,
    add_learned,
    aliases_of,
    base_number,
    change_base,
    find_base,
    fold_base,
    learn_base,
    set_alias,
)
from registry.catalog.errors import AliasTakenError
from registry.catalog.tables import adapters
from registry.catalog.values import AuditEntry


@dataclass(frozen=True, slots=True)
class Registration:
    """Ask for a base model as its owner knows it.

    Attributes:
        name: its canonical name.
        aliases: other names for it.
        config: its configuration as it came, or None to leave what is there.
        shapes: `(d_out, d_in)` by module, from the configuration.
    """

    name: str
    aliases: tuple[str, ...]
    config: str | None
    shapes: Shapes


def register_base(connection: Connection, wanted: Registration, act: AuditEntry) -> int:
    """Make or change a base model, and return its row.

    What a configuration says wins over what was learned from pushes. A base that an alias names
    becomes part of this one, if their shapes agree.

    Raises:
        AliasTakenError: the name or an alias was registered for another base.
        BaseShapeError: a base that an alias names has a module of another shape.
    """
    now, key = act.time, base_key_of(wanted.name)
    owner = find_base(connection, key)
    if owner is not None and owner.key != key:
        raise AliasTakenError(wanted.name, owner.name)
    number = base_number(connection, key)
    if number is None:
        number, _ = learn_base(connection, wanted.name, key=key, namespace="", shapes={}, now=now)
    base = _locked(connection, key)
    shapes = {**base.shapes, **wanted.shapes}
    learned = dict(base.learned)
    for alias in _new_names(wanted.aliases, key):
        _adopt(connection, alias, base=base, shapes=shapes, learned=learned, now=now)
    add_learned(connection, number, learned)
    change_base(connection, number, now=now, shapes=shapes, name=wanted.name, config=wanted.config)
    refresh_search(connection, adapters.c.base_id == number)
    append_audit(connection, act)
    return number


def _locked(connection: Connection, key: str) -> BaseEntry:
    base = find_base(connection, key, lock=True)
    if base is None:
        message = f"base model {key!r} vanished while it was registered"
        raise RuntimeError(message)
    return base


def _new_names(aliases: Sequence[str], key: str) -> list[str]:
    named: dict[str, str] = {}
    for alias in aliases:
        named.setdefault(base_key_of(alias), alias)
    return [alias for alias_key, alias in named.items() if alias_key != key]


def _adopt(
    connection: Connection,
    alias: str,
    *,
    base: BaseEntry,
    shapes: dict[str, tuple[int, int]],
    learned: dict[str, Shapes],
    now: str,
) -> None:
    """Let an alias stand for the base, and add the shapes that come with it."""
    key = base_key_of(alias)
    other = find_base(connection, key, lock=True)
    if other is not None and other.number != base.number:
        if other.key != key:
            raise AliasTakenError(alias, other.name)
        if other.config is not None or aliases_of(connection, [other.number])[other.number]:
            raise AliasTakenError(alias, other.name)
        shapes |= join_shapes(base.name, shapes, other.shapes)
        for namespace, told in other.learned.items():
            known = learned.get(namespace, {})
            join_shapes(base.name, {**known, **shapes}, told)
            learned[namespace] = {**told, **known}
        fold_base(connection, other.number, into=base, now=now)
    set_alias(connection, alias, key=key, number=base.number)
