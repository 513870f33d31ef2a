"""Lock a table in use."""

from alembic import op

import safely

# rehearse: no, all of customers was locked
# lock: ACCESS EXCLUSIVE on customers
revision = "lock_table"
down_revision = "schema"


def upgrade() -> None:
    op.execute("LOCK TABLE customers")  # <- table-lock


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
