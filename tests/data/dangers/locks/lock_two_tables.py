"""Lock two tables in use."""

from alembic import op

import safely

# rehearse: no, one transaction locked customers and orders
# lock: ACCESS EXCLUSIVE on customers, ACCESS EXCLUSIVE on orders
revision = "lock_two_tables"
down_revision = "schema"


def upgrade() -> None:
    op.execute("LOCK TABLE customers, orders")  # <- two-tables


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
