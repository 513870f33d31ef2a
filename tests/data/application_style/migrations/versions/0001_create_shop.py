"""Create the tables of the shop."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("age", sa.Integer()),
        sa.Column("status", sa.Text()),
    )
    op.create_table(  # <- two-subjects
        "orders",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("user_id", sa.BigInteger()),
        sa.Column("total", sa.Numeric(10, 2)),
        sa.Column("state", sa.Text()),
    )
    op.create_table("items", sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True))
    op.create_table("settings", sa.Column("key", sa.Text(), primary_key=True), sa.Column("value", sa.Text()))


def downgrade():
    for table in ("settings", "items", "orders", "users"):
        op.drop_table(table)  # <- lossy-downgrade
