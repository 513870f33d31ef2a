"""Add a tenant to three tables."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


TABLES = ["users", "orders", "items"]


def upgrade():
    for table in TABLES:
        op.add_column(table, sa.Column("tenant", sa.Text()))  # <- raw-op, two-tables
        op.create_index(f"ix_{table}_tenant", table, ["tenant"])  # <- plain-index


def downgrade():
    for table in reversed(TABLES):
        op.drop_index(f"ix_{table}_tenant", table)  # <- plain-index-drop
        op.drop_column(table, "tenant")  # <- lossy-downgrade
