"""Overwrite values on the way back."""

from alembic import op

import safely

# rehearse: no, after the downgrade: column orders.state: was … DEFAULT 'new'::text", is now
# lock: ROW EXCLUSIVE on orders
revision = "overwriting_downgrade"
down_revision = "schema"


def upgrade() -> None:
    safely.change_default("orders", "state", "open")


def downgrade() -> None:
    op.execute("UPDATE orders SET state = 'new' WHERE state = 'open'")  # <- lossy-downgrade
