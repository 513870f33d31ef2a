"""Drop a sequence that a default uses."""

from alembic import op

import safely

# lock: ACCESS EXCLUSIVE on order_number, ACCESS EXCLUSIVE on orders
revision = "drop_sequence"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP SEQUENCE order_number CASCADE")  # <- drop-cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
