"""Rename a column."""

from alembic import op

import safely

# rehearse: yes, the views of older builds keep the old name
# lock: ACCESS EXCLUSIVE on customers
revision = "rename_column_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.alter_column("customers", "name", new_column_name="full_name")  # <- rename


def downgrade() -> None:
    safely.rename_column("customers", "full_name", "name")
