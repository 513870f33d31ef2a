"""Wait for locks without an end."""

from alembic import op

import safely

# rehearse: no, lock_timeout was set to 0
# lock: no table
revision = "lock_timeout"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET lock_timeout = 0")  # <- lock-timeout


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
