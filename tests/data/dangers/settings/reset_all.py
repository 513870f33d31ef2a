"""Reset all settings of the connection."""

from alembic import op

import safely

# rehearse: yes, RESET brings back what the connection began with: the same lock_timeout
# lock: no table
revision = "reset_all"
down_revision = "schema"


def upgrade() -> None:
    op.execute("RESET ALL")  # <- lock-timeout


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
