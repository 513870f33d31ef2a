"""Rename a table."""

from alembic import op

import safely

# rehearse: yes, the views of older builds keep the old name
# lock: ACCESS EXCLUSIVE on payments
revision = "rename_table"
down_revision = "schema"


def upgrade() -> None:
    op.rename_table("payments", "receipts")  # <- rename


def downgrade() -> None:
    safely.rename_table("receipts", "payments")
