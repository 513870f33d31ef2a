"""Index a table in use."""

from alembic import op

import safely

# rehearse: no, rows of orders were read under a lock on
# lock: SHARE on orders
revision = "plain_index_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.create_index("ix_orders_state", "orders", ["state"])  # <- plain-index


def downgrade() -> None:
    safely.drop_index("ix_orders_state", "orders")
