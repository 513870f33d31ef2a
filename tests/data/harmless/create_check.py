"""Add a check in two steps."""

import safely

revision = "create_check"
down_revision = "schema"


def upgrade() -> None:
    safely.create_check_constraint("ck_orders_total", "orders", "total >= 0")


def downgrade() -> None:
    safely.drop_constraint("ck_orders_total", "orders")
