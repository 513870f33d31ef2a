"""Add a check that looks at every row."""

from alembic import op

import safely

# rehearse: no, rows of orders were read under a lock on
# lock: ACCESS EXCLUSIVE on orders
revision = "check_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.create_check_constraint("ck_orders_total", "orders", "total >= 0")  # <- check-at-once


def downgrade() -> None:
    safely.drop_constraint("ck_orders_total", "orders")
