"""Index the same columns twice in one file."""

import safely

# rehearse: no, is a duplicate of
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "two_equal_indexes"
down_revision = "schema"


def upgrade() -> None:
    safely.create_index("ix_orders_state", "orders", ["state"])
    safely.create_index("ix_orders_by_state", "orders", ["state"])  # <- duplicate-index


def downgrade() -> None:
    safely.drop_index("ix_orders_by_state", "orders")
    safely.drop_index("ix_orders_state", "orders")
