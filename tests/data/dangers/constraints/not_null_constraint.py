"""Add NOT NULL as a named constraint, which looks at every row (PostgreSQL 18)."""

from alembic import op

import safely

# rehearse: no, column "note" of relation "orders" contains null values
# lock: ACCESS EXCLUSIVE on orders
revision = "not_null_constraint"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- not-null-at-once
        "ALTER TABLE orders ADD CONSTRAINT nn_orders_note NOT NULL note"
    )


def downgrade() -> None:
    safely.allow_null("orders", "note")
