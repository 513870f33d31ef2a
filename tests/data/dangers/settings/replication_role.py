"""Fire no trigger, not even those of foreign keys."""

from alembic import op

import safely

# rehearse: no, session_replication_role was set to replica
# lock: no table
revision = "replication_role"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET session_replication_role = 'replica'")  # <- replication-role


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
