"""Commit behind another statement."""

from alembic import op

import safely

# rehearse: cannot run, cannot insert multiple commands into a prepared statement
# lock: ROW EXCLUSIVE on customers
revision = "commit_behind_statement"
down_revision = "schema"


def upgrade() -> None:
    op.execute("UPDATE customers SET age = 18 WHERE id = 7; COMMIT")  # <- transaction-control


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
