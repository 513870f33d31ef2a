"""Index two columns, of which the first has an index."""

import safely

revision = "longer_index"
down_revision = "schema"


def upgrade() -> None:
    safely.create_index("ix_orders_customer_state", "orders", ["customer_id", "state"])


def downgrade() -> None:
    safely.drop_index("ix_orders_customer_state", "orders")
