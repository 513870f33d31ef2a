"""Copy values from another table at once."""

from alembic import op

import safely

# rehearse: no, rows of payments changed at once
# lock: ROW EXCLUSIVE on payments
revision = "update_from"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- backfill-at-once
        "UPDATE payments SET customer_id = o.customer_id FROM orders AS o WHERE o.id = "
        "payments.order_id"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
