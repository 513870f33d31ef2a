"""Cancel the clients' queries."""

from alembic import op

import safely

# rehearse: yes, the copy has no session of this role
# lock: no table
revision = "cancel_backend"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- terminate-backend
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'nobody'"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
