"""Validate NOT NULL in the transaction that adds it (PostgreSQL 18)."""

from alembic import op

import safely

# rehearse: no, column "note" of relation "orders" contains null values
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "not_null_and_validate"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders ADD CONSTRAINT nn_orders_note NOT NULL note NOT VALID")
    op.execute("ALTER TABLE orders VALIDATE CONSTRAINT nn_orders_note")  # <- check-and-validate


def downgrade() -> None:
    safely.allow_null("orders", "note")
