"""Drop statistics by which the planner chooses plans."""

from alembic import op

import safely

# rehearse: no, statistics orders_stats was dropped, not set aside
# lock: no table
# not in the SQL: SHARE UPDATE EXCLUSIVE on orders
revision = "drop_statistics"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP STATISTICS orders_stats")  # <- drop-object


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
