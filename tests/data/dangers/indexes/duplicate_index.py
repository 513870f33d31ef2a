"""Index a column that has an index already."""

import safely

# rehearse: no, is a duplicate of
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "duplicate_index"
down_revision = "schema"


def upgrade() -> None:
    safely.create_index("ix_orders_customer", "orders", ["customer_id"])  # <- duplicate-index


def downgrade() -> None:
    safely.drop_index("ix_orders_customer", "orders")
