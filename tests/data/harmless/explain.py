"""Ask for a plan, without running it."""

from alembic import op

import safely

revision = "explain"
down_revision = "schema"


def upgrade() -> None:
    op.execute("EXPLAIN UPDATE orders SET note = NULL")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
