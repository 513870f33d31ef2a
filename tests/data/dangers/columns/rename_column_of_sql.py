"""Rename a column, in SQL."""

from alembic import op

import safely

# rehearse: yes, the views of older builds keep the old name
# lock: ACCESS EXCLUSIVE on orders
revision = "rename_column_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders RENAME COLUMN note TO remark")  # <- rename


def downgrade() -> None:
    safely.rename_column("orders", "remark", "note")
