"""Wait for a lock that clients may hold."""

from alembic import op

import safely

# rehearse: no, an advisory lock was taken: SELECT pg_advisory_lock(18)
# lock: no table
revision = "advisory_lock"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT pg_advisory_lock(18)")  # <- advisory-lock


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
