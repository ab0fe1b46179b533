"""Lay out the catalog's tables: rows only, no behaviour.

Times are UTC text (`YYYY-MM-DDThh:mm:ss.mmmZ`), digests are 64 hex digits; both sort as text on
every database. A row is not a value: the rest of the registry sees the frozen dataclasses of
`catalog_values.py`. Every revision row is reachable from a live ref: deleting a ref deletes, in
the same transaction, the revisions that only it kept.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import registry as orm_registry
from sqlmodel import Field, SQLModel

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
}
# Names compare byte by byte everywhere, whatever the locale of the database.
NAME = String(512).with_variant(String(512, collation="C"), "postgresql")
HEX = String(64).with_variant(String(64, collation="C"), "postgresql")
TIME = String(24).with_variant(String(24, collation="C"), "postgresql")


class Row(SQLModel, registry=orm_registry(metadata=MetaData(naming_convention=_NAMING))):
    """Be the root of every table of the catalog."""


class BaseModelRow(Row, table=True):
    """Keep one base model; `merged_into` is the key of the base that an alias folded it into."""

    __tablename__ = "base_models"
    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(sa_type=NAME, unique=True)
    name: str = Field(sa_type=NAME)
    config: str | None = Field(default=None, sa_type=Text)
    shapes: str = Field(default="{}", sa_type=Text)
    learned: str = Field(default="{}", sa_type=Text)
    merged_into: str | None = Field(default=None, sa_type=NAME)
    created_at: str = Field(sa_type=TIME)
    updated_at: str = Field(sa_type=TIME)
    sequence: int = Field(sa_type=BigInteger)
    recorded: bool = Field(default=False, sa_type=Boolean)


class BaseAliasRow(Row, table=True):
    """Keep one registered spelling of a base model."""

    __tablename__ = "base_aliases"
    key: str = Field(sa_type=NAME, primary_key=True)
    alias: str = Field(sa_type=NAME)
    base_id: int = Field(foreign_key="base_models.id", index=True)


class AdapterRow(Row, table=True):
    """Keep one adapter; `alive` is false once it was deleted (its refs' numbers live on)."""

    __tablename__ = "adapters"
    __table_args__ = (
        UniqueConstraint("namespace", "name"),
        Index(None, "alive", "namespace", "name", "search_text"),  # all that a search reads
        Index(None, "base_id", "namespace", "name"),
        Index(None, "kind", "namespace", "name"),
        {"sqlite_autoincrement": True},
    )
    id: int | None = Field(default=None, primary_key=True)
    namespace: str = Field(sa_type=NAME)
    name: str = Field(sa_type=NAME)
    search_text: str = Field(sa_type=NAME)
    base_id: int | None = Field(default=None, foreign_key="base_models.id")
    kind: str = Field(sa_type=NAME)
    created_at: str = Field(sa_type=TIME)
    updated_at: str = Field(sa_type=TIME)
    alive: bool = Field(sa_type=Boolean)
    revision_count: int = Field(default=0)
    size_bytes: int = Field(default=0, sa_type=BigInteger)


class RevisionRow(Row, table=True):
    """Keep one immutable revision with its manifest, canonical JSON as text."""

    __tablename__ = "revisions"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: int | None = Field(default=None, primary_key=True)
    adapter_id: int = Field(foreign_key="adapters.id", index=True)
    digest: str = Field(sa_type=HEX, unique=True)
    parent: str | None = Field(default=None, sa_type=HEX)
    created_at: str = Field(sa_type=TIME)
    size_bytes: int = Field(sa_type=BigInteger)
    manifest: str = Field(sa_type=Text)


class FileRow(Row, table=True):
    """Say which blobs a revision needs."""

    __tablename__ = "files"
    __table_args__ = (
        PrimaryKeyConstraint("revision_id", "path"),
        Index(None, "digest", "adapter_id"),
    )
    revision_id: int = Field(foreign_key="revisions.id")
    path: str = Field(sa_type=Text)
    adapter_id: int = Field(foreign_key="adapters.id", index=True)
    digest: str = Field(sa_type=HEX)
    size_bytes: int = Field(sa_type=BigInteger)


class LineageRow(Row, table=True):
    """Keep one edge from a revision to what it was made from."""

    __tablename__ = "lineage"
    __table_args__ = (PrimaryKeyConstraint("revision_id", "position"),)
    revision_id: int = Field(foreign_key="revisions.id")
    position: int
    operation: str = Field(sa_type=NAME)
    source_namespace: str = Field(sa_type=NAME)
    source_name: str = Field(sa_type=NAME)
    source_digest: str = Field(sa_type=HEX, index=True)
    weight: float | None = None
    parameters: str = Field(sa_type=Text)


class RefRow(Row, table=True):
    """Keep one branch or tag; without a digest it is deleted and only its number lives on."""

    __tablename__ = "refs"
    __table_args__ = (
        UniqueConstraint("adapter_id", "kind", "name"),
        Index(None, "adapter_id", "digest"),
    )
    id: int | None = Field(default=None, primary_key=True)
    adapter_id: int = Field(foreign_key="adapters.id")
    kind: str = Field(sa_type=NAME)
    name: str = Field(sa_type=NAME)
    digest: str | None = Field(default=None, sa_type=HEX)
    sequence: int = Field(sa_type=BigInteger)
    moved_at: str = Field(sa_type=TIME)
    recorded: bool = Field(sa_type=Boolean)


class ObjectRow(Row, table=True):
    """Keep the state of what stands in the store and may be collected: blobs and manifests."""

    __tablename__ = "objects"
    __table_args__ = (
        UniqueConstraint("digest", "kind"),
        Index(None, "touched_at"),
        {"sqlite_autoincrement": True},
    )
    id: int | None = Field(default=None, primary_key=True)
    kind: str = Field(sa_type=NAME)
    digest: str = Field(sa_type=HEX)
    size_bytes: int = Field(sa_type=BigInteger)
    state: str = Field(sa_type=NAME)
    touched_at: str = Field(sa_type=TIME)


class HoldingRow(Row, table=True):
    """Say that a namespace sent a blob itself, so that it may know that it is there."""

    __tablename__ = "holdings"
    __table_args__ = (PrimaryKeyConstraint("namespace", "digest"),)
    namespace: str = Field(sa_type=NAME)
    digest: str = Field(sa_type=HEX, index=True)
    size_bytes: int = Field(sa_type=BigInteger)
    touched_at: str = Field(sa_type=TIME)


class TokenRow(Row, table=True):
    """Keep one token by the keyed hash of its secret."""

    __tablename__ = "tokens"
    id: str = Field(sa_type=NAME, primary_key=True)
    secret_hash: str = Field(sa_type=HEX, unique=True)
    label: str = Field(sa_type=NAME)
    namespace: str = Field(sa_type=NAME, index=True)
    role: str = Field(sa_type=NAME)
    created_at: str = Field(sa_type=TIME)
    expires_at: str | None = Field(default=None, sa_type=TIME)
    last_used_at: str | None = Field(default=None, sa_type=TIME)
    revoked_at: str | None = Field(default=None, sa_type=TIME)


class AuditRow(Row, table=True):
    """Keep one act: who did what to what, appended and never changed."""

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: int | None = Field(default=None, primary_key=True)
    time: str = Field(sa_type=TIME)
    principal: str = Field(sa_type=NAME)
    action: str = Field(sa_type=NAME)
    subject: str = Field(sa_type=NAME, index=True)
    digest: str | None = Field(default=None, sa_type=HEX)


class JobRow(Row, table=True):
    """Keep one job; `attempt` only ever grows, which tells a stale worker from the present one.

    A map has `children` and no lease of its own: its state follows from theirs.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("namespace", "idempotency_key"),
        Index(None, "state", "number"),
        Index(None, "state", "lease_expires_at"),
        Index(None, "kind", "number"),
        Index(None, "parent", "number"),
        {"sqlite_autoincrement": True},
    )
    number: int | None = Field(default=None, primary_key=True)
    id: str = Field(sa_type=HEX, unique=True)
    kind: str = Field(sa_type=NAME)
    namespace: str = Field(sa_type=NAME, index=True)
    parameters: str = Field(sa_type=Text)
    asked: str = Field(sa_type=HEX)
    idempotency_key: str | None = Field(default=None, sa_type=NAME)
    asked_by: str = Field(sa_type=NAME)
    grants: str = Field(sa_type=Text)
    gpus: int = Field(default=0)
    parent: str | None = Field(default=None, sa_type=HEX)
    children: int = Field(default=0)
    state: str = Field(sa_type=NAME)
    cancel_requested: bool = Field(default=False, sa_type=Boolean)
    attempt: int = Field(default=0)
    forgiven: int = Field(default=0)
    max_attempts: int
    lease_owner: str | None = Field(default=None, sa_type=NAME)
    lease_expires_at: str | None = Field(default=None, sa_type=TIME)
    heartbeat_at: str | None = Field(default=None, sa_type=TIME)
    step: int = Field(default=0, sa_type=BigInteger)
    total: int | None = Field(default=None, sa_type=BigInteger)
    message: str = Field(default="", sa_type=Text)
    metrics: str = Field(default="{}", sa_type=Text)
    checkpoint: str | None = Field(default=None, sa_type=HEX, index=True)
    result_namespace: str | None = Field(default=None, sa_type=NAME)
    result_name: str | None = Field(default=None, sa_type=NAME)
    result_digest: str | None = Field(default=None, sa_type=HEX)
    outcome: str | None = Field(default=None, sa_type=Text)
    error: str | None = Field(default=None, sa_type=Text)
    version: int = Field(default=1, sa_type=BigInteger)
    created_at: str = Field(sa_type=TIME)
    started_at: str | None = Field(default=None, sa_type=TIME)
    ended_at: str | None = Field(default=None, sa_type=TIME)


class JobLogRow(Row, table=True):
    """Keep one line of a job's log; the oldest go when there are too many."""

    __tablename__ = "job_log"
    __table_args__ = (Index(None, "job", "number"), {"sqlite_autoincrement": True})
    number: int | None = Field(default=None, primary_key=True)
    job: int = Field(foreign_key="jobs.number")
    attempt: int
    time: str = Field(sa_type=TIME)
    text: str = Field(sa_type=Text)


metadata = Row.metadata


def _table(name: str) -> Table:
    return metadata.tables[name]


base_models, base_aliases = _table("base_models"), _table("base_aliases")
adapters, revisions, files = _table("adapters"), _table("revisions"), _table("files")
lineage, refs = _table("lineage"), _table("refs")
objects, holdings = _table("objects"), _table("holdings")
tokens, audit = _table("tokens"), _table("audit")
jobs, job_log = _table("jobs"), _table("job_log")
