"""Reset lock_timeout to that of the server."""

from alembic import op

import safely

# lock: no table
revision = "reset_lock_timeout"
down_revision = "schema"


def upgrade() -> None:
    op.execute("RESET lock_timeout")  # <- lock-timeout


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
