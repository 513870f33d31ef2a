"""Reset all settings of the connection."""

from alembic import op

import safely

# lock: no table
revision = "reset_all"
down_revision = "schema"


def upgrade() -> None:
    op.execute("RESET ALL")  # <- lock-timeout


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
