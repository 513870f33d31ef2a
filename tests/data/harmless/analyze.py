"""Collect statistics."""

from alembic import op

import safely

revision = "analyze"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ANALYZE orders")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
