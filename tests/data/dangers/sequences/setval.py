"""Set a sequence to a number."""

from alembic import op

import safely

# rehearse: no, sequence public.order_number went back from
# lock: no table
revision = "setval"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT setval('order_number', 1)")  # <- sequence-restart


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
