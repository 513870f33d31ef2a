"""Lock out all writers of a table."""

from alembic import op

import safely

# rehearse: no, all of orders was locked
# lock: SHARE on orders
revision = "lock_in_share_mode"
down_revision = "schema"


def upgrade() -> None:
    op.execute("LOCK orders IN SHARE MODE NOWAIT")  # <- table-lock


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
