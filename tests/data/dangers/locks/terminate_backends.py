"""Cut off the clients' connections."""

from alembic import op

import safely

# rehearse: yes, the copy has no session of this role
# lock: no table
revision = "terminate_backends"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- terminate-backend
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'nobody'"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
