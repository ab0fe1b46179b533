"""Keep what pushes tell of a base model's shapes apart by namespace."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; what was learned before stays true for every namespace."""
    op.add_column(
        "base_models", sa.Column("learned", sa.Text(), nullable=False, server_default="{}")
    )


def downgrade() -> None:
    """Forget what was learned."""
    op.drop_column("base_models", "learned")
