"""Notify listeners while other commits wait."""

from alembic import op

import safely

# rehearse: yes, nobody listens to the channel
# lock: no table
revision = "notify"
down_revision = "schema"


def upgrade() -> None:
    op.execute("NOTIFY cache, 'flush'")  # <- notify


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
