"""Make space for new rows."""

from alembic import op

import safely

revision = "vacuum"
down_revision = "schema"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("VACUUM (ANALYZE) orders")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
