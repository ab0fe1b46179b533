"""Keep jobs and their logs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NAME = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql")
HEX = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
TIME = sa.String(24).with_variant(sa.String(24, collation="C"), "postgresql")


def _lease_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("forgiven", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", NAME, nullable=True),
        sa.Column("lease_expires_at", TIME, nullable=True),
        sa.Column("heartbeat_at", TIME, nullable=True),
    ]


def _progress_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("checkpoint", HEX, nullable=True),
        sa.Column("result_namespace", NAME, nullable=True),
        sa.Column("result_name", NAME, nullable=True),
        sa.Column("result_digest", HEX, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
    ]


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", HEX, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("asked", HEX, nullable=False),
        sa.Column("idempotency_key", NAME, nullable=True),
        sa.Column("asked_by", NAME, nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("parent", HEX, nullable=True),
        sa.Column("children", sa.Integer(), nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        *_lease_columns(),
        *_progress_columns(),
        sa.PrimaryKeyConstraint("number", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sa.UniqueConstraint(
            "namespace", "idempotency_key", name="uq_jobs_namespace_idempotency_key"
        ),
        sqlite_autoincrement=True,
    )
    for columns in (
        ["state", "number"],
        ["state", "lease_expires_at"],
        ["kind", "number"],
        ["parent", "number"],
        ["namespace"],
        ["checkpoint"],
    ):
        op.create_index(f"ix_jobs_{'_'.join(columns)}", "jobs", columns)
    op.create_table(
        "job_log",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name="fk_job_log_job"),
        sa.PrimaryKeyConstraint("number", name="pk_job_log"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_log_job_number", "job_log", ["job", "number"])


def downgrade() -> None:
    """Forget all jobs."""
    op.drop_table("job_log")
    op.drop_table("jobs")
