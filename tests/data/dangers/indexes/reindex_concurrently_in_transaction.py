"""Rebuild an index CONCURRENTLY in a transaction, which PostgreSQL refuses."""

from alembic import op

import safely

# rehearse: no, REINDEX CONCURRENTLY cannot run inside a transaction block
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "reindex_concurrently_in_transaction"
down_revision = "schema"


def upgrade() -> None:
    op.execute("REINDEX INDEX CONCURRENTLY ix_orders_customer_id")  # <- concurrently-in-transaction


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
