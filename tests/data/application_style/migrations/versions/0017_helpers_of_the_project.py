"""Add columns by helpers of the project."""

import sqlalchemy as sa
from alembic import op
from shop_schema import add_audit_columns, add_column_if_missing, column_exists, table_exists  # <- imports-application

revision = "0017"
down_revision = "0016"


def upgrade():
    add_audit_columns("orders")  # <- raw-op
    add_column_if_missing("orders", sa.Column("channel", sa.Text(), nullable=False))  # <- reads-database, required-column
    if table_exists("refunds"):
        add_audit_columns("refunds")  # <- raw-op, two-tables


def downgrade():
    if column_exists("orders", "channel"):  # <- reads-database
        op.drop_column("orders", "channel")  # <- lossy-downgrade
    op.drop_column("orders", "updated_by")  # <- lossy-downgrade
    op.drop_column("orders", "created_by")  # <- lossy-downgrade
