"""Name and write the documents that stand beside the blobs, enough to rebuild the catalog from.

    adapters/<namespace>/<name>/manifests/<hex>.json                   a revision
    adapters/<namespace>/<name>/refs/<kind>/<ref>/<sequence>.json      one move of a branch or tag
    base_models/<key>/<sequence>.json                                  one state of a base model

Moves are numbered per ref, and the highest number tells where it points; a move to nothing is a
deletion. `<kind>` is `branches` or `tags`; in `<ref>` an underscore is `__` and a slash `_-`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as BodyError

from registry.base_names import base_key_of
from registry.digest import Digest
from registry.errors import RegistryError, ValidationError
from registry.manifest_json import DigestText
from registry.refs import AdapterName, RefKind, check_namespace

ADAPTERS = "adapters/"
BASE_MODELS = "base_models/"
_MANIFEST = re.compile(r"adapters/([^/]+)/([^/]+)/manifests/([0-9a-f]{64})\.json")
_MOVE = re.compile(r"adapters/([^/]+)/([^/]+)/refs/(branches|tags)/([^/]+)/([0-9]{10})\.json")
_BASE = re.compile(r"base_models/([^/]+)/([0-9]{10})\.json")


@dataclass(frozen=True, slots=True)
class RefMove:
    """Say where a ref pointed from one moment on, and what its adapter was bound to then.

    Attributes:
        adapter: whose ref.
        kind: branch or tag.
        name: its name.
        digest: the revision it points at, or None if this move deleted it.
        sequence: number of the move, from 1, never used again.
        moved_at: when (UTC).
        adapter_created_at: when the adapter was first pushed.
        adapter_kind: PEFT type or kind of the adapter.
        base_model: name of the base model that the adapter is bound to, or None.
    """

    adapter: AdapterName
    kind: RefKind
    name: str
    digest: Digest | None
    sequence: int
    moved_at: str
    adapter_created_at: str
    adapter_kind: str
    base_model: str | None


@dataclass(frozen=True, slots=True)
class BaseState:
    """Say what was known of a base model from one moment on.

    Attributes:
        key: its normalised name.
        name: its canonical name.
        aliases: other names registered for it.
        config: its registered configuration, as it came, or None.
        shapes: `(d_out, d_in)` by module, true for everybody.
        merged_into: key of the base that it was folded into, or None.
        created_at: when it was first seen (UTC).
        updated_at: when this state began (UTC).
        sequence: number of the state, from 1.
        learned: further shapes, by the namespace whose pushes told them.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    config: str | None
    shapes: dict[str, tuple[int, int]]
    merged_into: str | None
    created_at: str
    updated_at: str
    sequence: int
    learned: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _MoveBody(_Body):
    schema_version: int = Field(default=1, ge=1, le=1)
    adapter: str
    kind: str
    name: str
    digest: DigestText | None
    sequence: int = Field(ge=1)
    moved_at: str
    adapter_created_at: str
    adapter_kind: str
    base_model: str | None


class _BaseBody(_Body):
    schema_version: int = Field(default=1, ge=1, le=1)
    key: str
    name: str
    aliases: list[str]
    config: str | None
    shapes: dict[str, list[int]]
    learned: dict[str, dict[str, list[int]]] = Field(default_factory=dict)
    merged_into: str | None
    created_at: str
    updated_at: str
    sequence: int = Field(ge=1)


def manifest_key(adapter: AdapterName, revision: Digest) -> str:
    """Name the record of a manifest."""
    return f"{ADAPTERS}{adapter}/manifests/{revision.hex}.json"


def move_key(adapter: AdapterName, kind: RefKind, name: str, sequence: int) -> str:
    """Name the record of one move of a ref."""
    escaped = name.replace("_", "__").replace("/", "_-")
    folder = "branches" if kind is RefKind.BRANCH else "tags"
    return f"{ADAPTERS}{adapter}/refs/{folder}/{escaped}/{sequence:010d}.json"


def base_key(key: str, sequence: int) -> str:
    """Name the record of one state of a base model."""
    safe = key if re.fullmatch(r"[a-z0-9]{1,200}", key) else _hashed(key)
    return f"{BASE_MODELS}{safe}/{sequence:010d}.json"


def _hashed(key: str) -> str:
    return "x-" + hashlib.sha256(key.encode()).hexdigest()[:40]


def parse_manifest_key(key: str) -> tuple[AdapterName, Digest] | None:
    """Return whose manifest a record is and which, or None if it is no manifest."""
    match = _MANIFEST.fullmatch(key)
    try:
        return (AdapterName(match[1], match[2]), Digest(match[3])) if match else None
    except ValidationError:
        return None


def parse_series(key: str) -> tuple[str, int] | None:
    """Return the series and number of a numbered record, or None if it has none."""
    numbered = _MOVE.fullmatch(key) or _BASE.fullmatch(key)
    return (key.rpartition("/")[0], int(key[-15:-5])) if numbered else None


def encode_move(move: RefMove) -> bytes:
    """Return the record of a move."""
    body = _MoveBody(
        adapter=str(move.adapter),
        kind=move.kind.value,
        name=move.name,
        digest=str(move.digest) if move.digest else None,
        sequence=move.sequence,
        moved_at=move.moved_at,
        adapter_created_at=move.adapter_created_at,
        adapter_kind=move.adapter_kind,
        base_model=move.base_model,
    )
    return _canonical(body)


def decode_move(data: bytes, key: str) -> RefMove:
    """Read the record of a move back.

    Raises:
        ValidationError: it is damaged, or stands under a name that is not its own.
    """
    try:
        body = _MoveBody.model_validate_json(data)
        move = RefMove(
            adapter=AdapterName.parse(body.adapter),
            kind=RefKind(body.kind),
            name=body.name,
            digest=Digest.parse(body.digest) if body.digest else None,
            sequence=body.sequence,
            moved_at=body.moved_at,
            adapter_created_at=body.adapter_created_at,
            adapter_kind=body.adapter_kind,
            base_model=body.base_model,
        )
    except (BodyError, ValueError, RegistryError) as error:
        raise _damaged(key, str(error)) from error
    if move_key(move.adapter, move.kind, move.name, move.sequence) != key:
        raise _damaged(key, "it tells of another ref")
    return move


def encode_base(state: BaseState) -> bytes:
    """Return the record of a base model's state."""
    body = _BaseBody(
        key=state.key,
        name=state.name,
        aliases=list(state.aliases),
        config=state.config,
        shapes=_listed(state.shapes),
        learned={name: _listed(shapes) for name, shapes in state.learned.items()},
        merged_into=state.merged_into,
        created_at=state.created_at,
        updated_at=state.updated_at,
        sequence=state.sequence,
    )
    return _canonical(body)


def decode_base(data: bytes, key: str) -> BaseState:
    """Read the record of a base model's state back.

    Raises:
        ValidationError: it is damaged, or stands under a name that is not its own.
    """
    try:
        body = _BaseBody.model_validate_json(data)
        shapes = _paired(body.shapes)
        learned = {check_namespace(n): _paired(told) for n, told in body.learned.items()}
        for spelling in (body.name, *body.aliases):
            base_key_of(spelling)
    except (BodyError, ValueError, RegistryError) as error:
        raise _damaged(key, str(error)) from error
    if base_key(body.key, body.sequence) != key:
        raise _damaged(key, "it tells of another base model")
    return BaseState(
        key=body.key,
        name=body.name,
        aliases=tuple(body.aliases),
        config=body.config,
        shapes=shapes,
        merged_into=body.merged_into,
        created_at=body.created_at,
        updated_at=body.updated_at,
        sequence=body.sequence,
        learned=learned,
    )


def _listed(shapes: dict[str, tuple[int, int]]) -> dict[str, list[int]]:
    return {module: list(shape) for module, shape in shapes.items()}


def _paired(shapes: dict[str, list[int]]) -> dict[str, tuple[int, int]]:
    return {module: (d_out, d_in) for module, (d_out, d_in) in shapes.items()}


def _canonical(body: BaseModel) -> bytes:
    value = body.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _damaged(key: str, reason: str) -> ValidationError:
    return ValidationError(
        f"record {key} is damaged: {reason[:300]}",
        file=key,
        expected="a record that this version wrote",
        actual=reason[:300],
    )
