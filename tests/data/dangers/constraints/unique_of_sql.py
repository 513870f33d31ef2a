"""Make two columns unique, in SQL."""

from alembic import op

import safely

# rehearse: no, rows of orders were read under a lock on
# lock: ACCESS EXCLUSIVE on orders
revision = "unique_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- unique-at-once
        "ALTER TABLE orders ADD CONSTRAINT uq_orders UNIQUE NULLS NOT DISTINCT (customer_id, "
        "placed_at)"
    )


def downgrade() -> None:
    safely.drop_constraint("uq_orders", "orders")
