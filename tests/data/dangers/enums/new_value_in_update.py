"""Write an enum value in the transaction that adds it."""

from alembic import op

import safely

# rehearse: no, unsafe use of new value "dormant" of enum type customer_status
# lock: ROW EXCLUSIVE on customers
revision = "new_value_in_update"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TYPE customer_status ADD VALUE 'dormant' AFTER 'active'")
    op.execute(  # <- enum-value-in-transaction
        "UPDATE customers SET status = 'dormant' WHERE id = 7"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
