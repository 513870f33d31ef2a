"""Lock a table as every writer does."""

from alembic import op

import safely

revision = "weak_lock"
down_revision = "schema"


def upgrade() -> None:
    op.execute("LOCK TABLE orders IN ROW EXCLUSIVE MODE")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
