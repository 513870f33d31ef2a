"""Add a foreign key to a column without an index."""

from alembic import op

import safely

# rehearse: no, foreign key fk_payments_customer_id on payments without an index: was added
# lock: SHARE ROW EXCLUSIVE on payments, SHARE ROW EXCLUSIVE on customers
revision = "foreign_key_without_index"
down_revision = "schema"


def upgrade() -> None:
    op.create_foreign_key(  # <- foreign-key-without-index
        "fk_payments_customer_id",
        "payments",
        "customers",
        ["customer_id"],
        ["id"],
        postgresql_not_valid=True,
    )


def downgrade() -> None:
    safely.drop_constraint("fk_payments_customer_id", "payments")
