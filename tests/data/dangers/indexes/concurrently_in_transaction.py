"""Build an index CONCURRENTLY in a transaction, which PostgreSQL refuses."""

from alembic import op

import safely

# rehearse: no, CREATE INDEX CONCURRENTLY cannot run inside a transaction block
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "concurrently_in_transaction"
down_revision = "schema"


def upgrade() -> None:
    op.create_index(  # <- concurrently-in-transaction
        "ix_orders_total", "orders", ["total"], postgresql_concurrently=True
    )


def downgrade() -> None:
    safely.drop_index("ix_orders_total", "orders")
