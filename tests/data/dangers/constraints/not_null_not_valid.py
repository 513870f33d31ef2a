"""Refuse the NULL that older builds write, by a NOT VALID constraint (PostgreSQL 18)."""

from alembic import op

import safely

# rehearse: no, at_roles: NotNullViolationError: null value in column "note"
# lock: ACCESS EXCLUSIVE on orders
revision = "not_null_not_valid"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- not-null-not-valid
        "ALTER TABLE orders ADD CONSTRAINT nn_orders_note NOT NULL note NOT VALID"
    )


def downgrade() -> None:
    safely.allow_null("orders", "note")
