"""Sleep while the locks of the transaction are held."""

from alembic import op

import safely

# rehearse: yes, it sleeps without a lock that a client waits for
# lock: no table
revision = "sleep"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT pg_sleep(0.2)")  # <- sleep


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
