"""Fire no trigger, by set_config."""

from alembic import op

import safely

# rehearse: no, session_replication_role was set to replica
# lock: no table
revision = "replication_role_by_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- replication-role
        "SELECT set_config('session_replication_role', 'replica', true)"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
