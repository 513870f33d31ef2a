"""Drop an index CONCURRENTLY in a transaction, which PostgreSQL refuses."""

from alembic import op

import safely

# rehearse: no, DROP INDEX CONCURRENTLY cannot run inside a transaction block
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "drop_concurrently_in_transaction"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP INDEX CONCURRENTLY ix_orders_customer_id")  # <- concurrently-in-transaction


def downgrade() -> None:
    safely.create_index("ix_orders_customer_id", "orders", ["customer_id"])
