"""Alter two tables in one transaction."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, one transaction locked customers and orders
# lock: ACCESS EXCLUSIVE on orders
revision = "two_tables"
down_revision = "schema"


def upgrade() -> None:
    op.add_column("customers", sa.Column("tenant", sa.Text()))
    op.add_column("orders", sa.Column("tenant", sa.Text()))  # <- two-tables


def downgrade() -> None:
    safely.drop_column("orders", "tenant")
    safely.drop_column("customers", "tenant")
