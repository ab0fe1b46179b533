"""Keep base models: one for all its spellings, with the shapes of its modules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from registry.base_names import base_key_if_named, base_key_of
from registry.base_shapes import shapes_from_config
from registry.catalog.bases import (
    BaseEntry,
    aliases_of,
    count_adapters,
    find_base,
    list_bases,
)
from registry.catalog.database import Database
from registry.catalog.errors import BaseModelNotFoundError
from registry.catalog.registration import Registration, register_base
from registry.catalog.values import AuditEntry, BaseModelRecord, Readable
from registry.clock import Clock, time_text
from registry.errors import ValidationError
from registry.recorder import Recorder

MAX_ALIASES = 100
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BaseModels:
    """Keep the base models of one registry.

    Attributes:
        database: the catalog.
        recorder: tells the store what was decided.
        clock: tells the time.
    """

    database: Database
    recorder: Recorder
    clock: Clock

    def list(self, readable: Readable = None) -> tuple[BaseModelRecord, ...]:
        """Return the base models: those that were registered, and those of readable adapters."""
        with self.database.read() as connection:
            bases = list_bases(connection)
            names = aliases_of(connection, [base.number for base in bases])
            counts = count_adapters(connection, readable)
        records = [_record(b, names[b.number], counts.get(b.number, 0), readable) for b in bases]
        return tuple(r for r in records if readable is None or _may_know(r))

    def resolve(self, text: str, *, readable: Readable = None) -> BaseModelRecord | None:
        """Return the base model that a spelling stands for, or None."""
        key = base_key_if_named(text)
        with self.database.read() as connection:
            base = find_base(connection, key) if key else None
            if base is None:
                return None
            names = aliases_of(connection, [base.number])[base.number]
            count = count_adapters(connection, readable).get(base.number, 0)
        record = _record(base, names, count, readable)
        return record if readable is None or _may_know(record) else None

    def get(self, text: str, *, readable: Readable = None) -> BaseModelRecord:
        """Return the base model that a spelling stands for.

        Raises:
            BaseModelNotFoundError: there is none, or none that the caller may know of.
        """
        record = self.resolve(text, readable=readable)
        if record is None:
            raise BaseModelNotFoundError(text[:200])
        return record

    def config(self, text: str) -> bytes | None:
        """Return the registered configuration of a base model, as it came, or None."""
        with self.database.read() as connection:
            base = find_base(connection, base_key_of(text))
        return base.config.encode() if base and base.config is not None else None

    def register(
        self,
        name: str,
        *,
        aliases: Sequence[str] = (),
        config: bytes | None = None,
        principal: str = "",
    ) -> BaseModelRecord:
        """Name a base model, its other names, and with its configuration its shapes.

        Raises:
            ValidationError: a name cannot be one, or the configuration is not a JSON object.
            AliasTakenError: a name was registered for another base model.
            BaseShapeError: a base that an alias names has a module of another shape.
        """
        name = name.strip()
        for spelling in (name, *aliases):
            _check_name(spelling)
        if len(aliases) > MAX_ALIASES:
            raise ValidationError(
                "too many aliases",
                field="aliases",
                expected=f"at most {MAX_ALIASES}",
                actual=str(len(aliases)),
            )
        text, shapes = _read_config(config)
        wanted = Registration(name, tuple(alias.strip() for alias in aliases), text, shapes)
        act = AuditEntry(time_text(self.clock()), principal, "register-base", name)
        self.database.write(lambda c: register_base(c, wanted, act))
        self.recorder.record_bases()
        self.recorder.record_moves()
        return self.get(name)


def _check_name(text: str) -> None:
    base_key_of(text)
    if len(text.strip()) > 256:
        raise ValidationError(
            "this name of a base model is too long",
            field="name",
            expected="at most 256 characters",
            actual=f"{len(text.strip())} characters",
        )


def _read_config(data: bytes | None) -> tuple[str | None, dict[str, tuple[int, int]]]:
    """Return a configuration as text, and the shapes that it implies."""
    if data is None:
        return None, {}
    if len(data) > MAX_CONFIG_BYTES:
        raise ValidationError(
            "the configuration is too long",
            file="config.json",
            expected=f"at most {MAX_CONFIG_BYTES} bytes",
            actual=f"{len(data)} bytes",
        )
    try:
        text = data.decode()
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_an_object(str(error)) from error
    if not isinstance(value, dict) or "\0" in text:
        raise _not_an_object(type(value).__name__)
    return text, shapes_from_config(value)


def _not_an_object(actual: str) -> ValidationError:
    return ValidationError(
        f"the configuration is not a JSON object: {actual[:200]}",
        file="config.json",
        expected="the config.json of the base model",
        actual=actual[:200],
    )


def _may_know(record: BaseModelRecord) -> bool:
    """Tell whether a base is no secret: registered, or used by an adapter that may be read."""
    return record.configured or bool(record.aliases) or record.adapters > 0


def _record(
    base: BaseEntry, names: Sequence[str], adapters: int, readable: Readable
) -> BaseModelRecord:
    shapes: dict[str, tuple[int, int]] = {}
    for namespace in sorted(base.learned):
        if readable is None or namespace in readable:
            shapes = {**base.learned[namespace], **shapes}
    return BaseModelRecord(
        name=base.name,
        key=base.key,
        aliases=tuple(names),
        shapes={**shapes, **base.shapes},
        configured=base.config is not None,
        adapters=adapters,
        created_at=base.created_at,
        updated_at=base.updated_at,
    )
