"""Comment on a table, in SQL."""

from alembic import op

import safely

revision = "comment_in_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute("COMMENT ON TABLE orders IS 'what customers have bought'")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
