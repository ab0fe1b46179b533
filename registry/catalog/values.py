"""Define what the catalog answers with: frozen values, none of them a database row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from registry.digest import Digest
from registry.manifest import LineageEdge, Manifest
from registry.refs import AdapterName, RefKind

Readable: TypeAlias = frozenset[str] | None
"""The namespaces that the caller may read; None means all of them."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Hold one page of a listing.

    Attributes:
        items: what stands on it, in order.
        next_cursor: what to ask the next page with, or None on the last.
    """

    items: tuple[T, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class RefRecord:
    """Show a branch or tag.

    Attributes:
        kind: whether it moves.
        name: its name.
        digest: the revision that it points at.
        moved_at: when it was last moved (UTC).
    """

    kind: RefKind
    name: str
    digest: Digest
    moved_at: str


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """Show an adapter.

    Attributes:
        name: `namespace/name`.
        base_model: canonical name of its base model, or None while unknown.
        kind: its PEFT type, or `lora-raw` and the like.
        created_at: when its first revision came (UTC).
        updated_at: when a ref of it last moved (UTC).
        revisions: how many revisions it has.
        size_bytes: what its revisions need in the store, equal blobs counted once.
        branches: by name.
        tags: by name.
    """

    name: AdapterName
    base_model: str | None
    kind: str
    created_at: str
    updated_at: str
    revisions: int
    size_bytes: int
    branches: tuple[RefRecord, ...] = ()
    tags: tuple[RefRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """Show a revision.

    Attributes:
        digest: its identity.
        manifest: its whole description.
        refs: the branches and tags that point at it now.
    """

    digest: Digest
    manifest: Manifest
    refs: tuple[RefRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class AdapterQuery:
    """Ask for adapters, ordered by namespace and name.

    Attributes:
        readable: namespaces that the caller may read; None means all.
        namespace: only of this namespace.
        base: only of this base model, in any spelling.
        search: only whose name or base contains this, in any case.
        kind: only of this PEFT type or kind.
        cursor: where the page before ended.
        limit: page size, 1 to 1000.
    """

    readable: Readable = None
    namespace: str | None = None
    base: str | None = None
    search: str | None = None
    kind: str | None = None
    cursor: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """Show one edge of a lineage graph: `child` was made from `edge.revision`.

    Attributes:
        adapter: the child's adapter.
        child: the child's digest.
        edge: the operation, its source and parameters.
        distance: steps from the revision that was asked about, from 1.
    """

    adapter: AdapterName
    child: Digest
    edge: LineageEdge
    distance: int


@dataclass(frozen=True, slots=True)
class LineageGraph:
    """Show what a revision was made from and what was made from it.

    Attributes:
        ancestors: edges towards the sources, nearest first.
        descendants: edges towards what was made, nearest first.
        truncated: whether there is more than is shown.
    """

    ancestors: tuple[GraphEdge, ...]
    descendants: tuple[GraphEdge, ...]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Show one act that changed the registry."""

    time: str
    principal: str
    action: str
    subject: str
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Count what the registry holds.

    Attributes:
        adapters: adapters that are not deleted.
        revisions: revisions of all of them.
        base_models: base models known.
        blobs: blobs in the store, as far as the catalog knows.
        size_bytes: their bytes.
        namespaces: bytes that each namespace sent.
    """

    adapters: int
    revisions: int
    base_models: int
    blobs: int
    size_bytes: int
    namespaces: dict[str, int] = field(default_factory=dict)


class Role(StrEnum):
    """Say what a token allows; each role includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """Show a token without its secret.

    Attributes:
        id: names it in listings and for revocation.
        label: what people call it.
        namespace: where it holds, or `*`.
        role: what it allows there.
        created_at: when it was made (UTC).
        expires_at: when it ends, or None.
        last_used_at: when it was last used, to a minute, or None.
        revoked_at: when it was revoked, or None.
    """

    id: str
    label: str
    namespace: str
    role: Role
    created_at: str
    expires_at: str | None = None
    last_used_at: str | None = None
    revoked_at: str | None = None

    def holds_at(self, moment: str) -> bool:
        """Tell whether it is neither revoked nor expired at a moment."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > moment)


@dataclass(frozen=True, slots=True)
class BaseModelRecord:
    """Show a base model.

    Attributes:
        name: its canonical name.
        key: its normalised name, which every spelling of it shares.
        aliases: other names registered for it.
        shapes: `(d_out, d_in)` by module, as far as they are known.
        configured: whether its configuration was registered.
        adapters: how many adapters of it the caller may read.
        created_at: when it was first seen (UTC).
        updated_at: when something was last learned of it (UTC).
    """

    name: str
    key: str
    aliases: tuple[str, ...]
    shapes: Mapping[str, tuple[int, int]]
    configured: bool
    adapters: int
    created_at: str
    updated_at: str
