"""Lose commits in a crash."""

from alembic import op

import safely

# rehearse: no, synchronous_commit was set to off: SET synchronous_commit = off
# lock: no table
revision = "synchronous_commit"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET synchronous_commit = off")  # <- durability


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
