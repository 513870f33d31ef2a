"""Vacuum in a transaction, which PostgreSQL refuses."""

from alembic import op

import safely

# rehearse: no, VACUUM cannot run inside a transaction block
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "vacuum"
down_revision = "schema"


def upgrade() -> None:
    op.execute("VACUUM orders")  # <- not-in-transaction


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
