"""Change a row by its id."""

from alembic import op

import safely

revision = "update_by_id"
down_revision = "schema"


def upgrade() -> None:
    op.execute("UPDATE customers SET age = 18 WHERE id = 7")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
