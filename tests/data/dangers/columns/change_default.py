"""Change a default in plain Alembic."""

from alembic import op

import safely

# rehearse: yes, only rows that leave the column out change, and older builds may write any text
# lock: ACCESS EXCLUSIVE on orders
revision = "change_default"
down_revision = "schema"


def upgrade() -> None:
    op.alter_column("orders", "state", server_default="draft")  # <- raw-op


def downgrade() -> None:
    safely.change_default("orders", "state", "new")
