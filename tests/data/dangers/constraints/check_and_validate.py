"""Validate a check in the transaction that adds it."""

from alembic import op

import safely

# rehearse: no, rows of orders were read under a lock on
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "check_and_validate"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders ADD CONSTRAINT ck_orders_total CHECK (total >= 0) NOT VALID")
    op.execute("ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_total")  # <- check-and-validate


def downgrade() -> None:
    safely.drop_constraint("ck_orders_total", "orders")
