"""Use an enum value in the transaction that adds it."""

from alembic import op

import safely

# rehearse: no, unsafe use of new value "dormant" of enum type customer_status
# lock: ACCESS EXCLUSIVE on customers
revision = "new_value_used"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TYPE customer_status ADD VALUE 'dormant' AFTER 'active'")
    op.execute(  # <- enum-value-in-transaction
        "ALTER TABLE customers ALTER status SET DEFAULT 'dormant'"
    )


def downgrade() -> None:
    safely.change_default("customers", "status", "active")
