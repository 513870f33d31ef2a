"""Let one role use a sequence."""

from alembic import op

import safely

revision = "grant_usage"
down_revision = "schema"


def upgrade() -> None:
    op.execute("GRANT USAGE ON SEQUENCE order_number TO app")


def downgrade() -> None:
    safely.nothing_to_undo("the role may go on using it")
