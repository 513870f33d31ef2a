"""Notify listeners by pg_notify."""

from alembic import op

import safely

# rehearse: yes, nobody listens to the channel
# lock: no table
revision = "notify_by_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT pg_notify('cache', 'flush')")  # <- notify


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
