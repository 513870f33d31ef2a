"""Index a table in use, in SQL."""

from alembic import op

import safely

# rehearse: no, rows of orders were read under a lock on
# lock: SHARE on orders
revision = "plain_index_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE INDEX ix_orders_placed_at ON orders (placed_at)")  # <- plain-index


def downgrade() -> None:
    safely.drop_index("ix_orders_placed_at", "orders")
