"""Index a column, concurrently."""

import safely

revision = "create_index"
down_revision = "schema"


def upgrade() -> None:
    safely.create_index("ix_orders_placed_at", "orders", ["placed_at"])


def downgrade() -> None:
    safely.drop_index("ix_orders_placed_at", "orders")
