"""Index five columns at once."""

import safely

# rehearse: yes, no writer waits for it; what it costs each write is not compared
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "wide_index"
down_revision = "schema"


def upgrade() -> None:
    safely.create_index(  # <- wide-index
        "ix_orders_all", "orders", ["customer_id", "product_id", "state", "placed_at", "note"]
    )


def downgrade() -> None:
    safely.drop_index("ix_orders_all", "orders")
