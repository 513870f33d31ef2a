"""Add a column in plain Alembic."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, after the second upgrade: the values of customers.nickname are not the same
# lock: ACCESS EXCLUSIVE on customers
revision = "add_column"
down_revision = "schema"


def upgrade() -> None:
    op.add_column("customers", sa.Column("nickname", sa.Text()))  # <- raw-op


def downgrade() -> None:
    safely.drop_column("customers", "nickname")
