"""Add columns by helpers of the project."""

import sqlalchemy as sa
from alembic import op
from shop_schema import add_audit_columns, add_column_if_missing, column_exists, table_exists

revision = "0017"
down_revision = "0016"


def upgrade():
    add_audit_columns("orders")
    add_column_if_missing("orders", sa.Column("channel", sa.Text(), nullable=False))
    if table_exists("refunds"):
        add_audit_columns("refunds")


def downgrade():
    if column_exists("orders", "channel"):
        op.drop_column("orders", "channel")
    op.drop_column("orders", "updated_by")
    op.drop_column("orders", "created_by")
