"""Wait for a lock that clients may hold, until the transaction ends."""

from alembic import op

import safely

# rehearse: no, an advisory lock was taken: SELECT pg_advisory_xact_lock(hashtext('orders'))
# lock: no table
revision = "advisory_transaction_lock"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT pg_advisory_xact_lock(hashtext('orders'))")  # <- advisory-lock


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
