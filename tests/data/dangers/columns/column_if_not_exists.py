"""Add a column unless another one has its name."""

from alembic import op

import safely

# rehearse: no, after the second upgrade: the values of customers.nickname are not the same
# lock: ACCESS EXCLUSIVE on customers
revision = "column_if_not_exists"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE customers ADD COLUMN IF NOT EXISTS nickname text")  # <- if-not-exists


def downgrade() -> None:
    safely.drop_column("customers", "nickname")
