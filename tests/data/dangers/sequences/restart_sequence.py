"""Restart a sequence, which hands out numbers twice."""

from alembic import op

import safely

# rehearse: no, sequence public.order_number went back from
# lock: SHARE ROW EXCLUSIVE on order_number
revision = "restart_sequence"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER SEQUENCE order_number RESTART WITH 1")  # <- sequence-restart


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
