"""Create the catalog as it first was: adapters, revisions, refs, bases, objects, tokens, audit.

Revision ID: 0001
Revises: none
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NAME = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql")
HEX = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
TIME = sa.String(24).with_variant(sa.String(24, collation="C"), "postgresql")


def upgrade() -> None:
    """Create every table."""
    _create_audit()
    _create_base_models()
    _create_holdings()
    _create_objects()
    _create_tokens()
    _create_adapters()
    _create_base_aliases()
    _create_refs()
    _create_revisions()
    _create_files()
    _create_lineage()


def downgrade() -> None:
    """Drop every table, those that refer to others first."""
    for table in (
        "lineage",
        "files",
        "revisions",
        "refs",
        "base_aliases",
        "adapters",
        "tokens",
        "objects",
        "holdings",
        "base_models",
        "audit",
    ):
        op.drop_table(table)


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("principal", NAME, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("digest", HEX, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)


def _create_base_models() -> None:
    op.create_table(
        "base_models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("config", sa.Text(), nullable=True),
        sa.Column("shapes", sa.Text(), nullable=False),
        sa.Column("merged_into", NAME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("recorded", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_models")),
        sa.UniqueConstraint("key", name=op.f("uq_base_models_key")),
    )


def _create_holdings() -> None:
    op.create_table(
        "holdings",
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("digest", HEX, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "digest", name=op.f("pk_holdings")),
    )
    op.create_index(op.f("ix_holdings_digest"), "holdings", ["digest"], unique=False)


def _create_objects() -> None:
    op.create_table(
        "objects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("digest", HEX, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("touched_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_objects")),
        sa.UniqueConstraint("digest", "kind", name=op.f("uq_objects_digest_kind")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_objects_touched_at"), "objects", ["touched_at"], unique=False)


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", NAME, nullable=False),
        sa.Column("secret_hash", HEX, nullable=False),
        sa.Column("label", NAME, nullable=False),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("role", NAME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_tokens_secret_hash")),
    )
    op.create_index(op.f("ix_tokens_namespace"), "tokens", ["namespace"], unique=False)


def _create_adapters() -> None:
    op.create_table(
        "adapters",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("search_text", NAME, nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=True),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False),
        sa.Column("revision_count", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["base_models.id"], name=op.f("fk_adapters_base_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapters")),
        sa.UniqueConstraint("namespace", "name", name=op.f("uq_adapters_namespace_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_adapters_alive_namespace_name_search_text"),
        "adapters",
        ["alive", "namespace", "name", "search_text"],
        unique=False,
    )
    op.create_index(
        op.f("ix_adapters_base_id_namespace_name"),
        "adapters",
        ["base_id", "namespace", "name"],
        unique=False,
    )
    op.create_index(
        op.f("ix_adapters_kind_namespace_name"),
        "adapters",
        ["kind", "namespace", "name"],
        unique=False,
    )


def _create_base_aliases() -> None:
    op.create_table(
        "base_aliases",
        sa.Column("key", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("base_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["base_id"], ["base_models.id"], name=op.f("fk_base_aliases_base_id")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_base_aliases")),
    )
    op.create_index(op.f("ix_base_aliases_base_id"), "base_aliases", ["base_id"], unique=False)


def _create_refs() -> None:
    op.create_table(
        "refs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("digest", HEX, nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", TIME, nullable=False),
        sa.Column("recorded", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_refs_adapter_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refs")),
        sa.UniqueConstraint(
            "adapter_id", "kind", "name", name=op.f("uq_refs_adapter_id_kind_name")
        ),
    )
    op.create_index(
        op.f("ix_refs_adapter_id_digest"), "refs", ["adapter_id", "digest"], unique=False
    )


def _create_revisions() -> None:
    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("digest", HEX, nullable=False),
        sa.Column("parent", HEX, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_revisions_adapter_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
        sa.UniqueConstraint("digest", name=op.f("uq_revisions_digest")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_revisions_adapter_id"), "revisions", ["adapter_id"], unique=False)


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("digest", HEX, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_files_adapter_id")),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name=op.f("fk_files_revision_id")
        ),
        sa.PrimaryKeyConstraint("revision_id", "path", name=op.f("pk_files")),
    )
    op.create_index(op.f("ix_files_adapter_id"), "files", ["adapter_id"], unique=False)
    op.create_index(
        op.f("ix_files_digest_adapter_id"), "files", ["digest", "adapter_id"], unique=False
    )


def _create_lineage() -> None:
    op.create_table(
        "lineage",
        sa.Column("revision_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("operation", NAME, nullable=False),
        sa.Column("source_namespace", NAME, nullable=False),
        sa.Column("source_name", NAME, nullable=False),
        sa.Column("source_digest", HEX, nullable=False),
        sa.Column("weight", sa.Float(), nullable=True),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name=op.f("fk_lineage_revision_id")
        ),
        sa.PrimaryKeyConstraint("revision_id", "position", name=op.f("pk_lineage")),
    )
    op.create_index(op.f("ix_lineage_source_digest"), "lineage", ["source_digest"], unique=False)
