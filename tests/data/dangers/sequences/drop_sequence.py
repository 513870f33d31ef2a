"""Drop a sequence that a default uses."""

from alembic import op

import safely

# rehearse: no, sequence order_number was dropped, not set aside
# lock: ACCESS EXCLUSIVE on order_number
# not in the SQL: ACCESS EXCLUSIVE on orders
revision = "drop_sequence"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP SEQUENCE order_number CASCADE")  # <- cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
