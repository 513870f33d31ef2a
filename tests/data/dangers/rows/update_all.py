"""Change every row at once."""

from alembic import op

import safely

# rehearse: no, rows of customers changed at once
# lock: ROW EXCLUSIVE on customers
revision = "update_all"
down_revision = "schema"


def upgrade() -> None:
    op.execute("UPDATE customers SET age = 18")  # <- backfill-at-once


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
