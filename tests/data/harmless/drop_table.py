"""Set a table aside."""

import sqlalchemy as sa

import safely

revision = "drop_table"
down_revision = "schema"


def upgrade() -> None:
    safely.drop_table("old_orders")


def downgrade() -> None:
    safely.create_table(
        "old_orders",
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("product_id", sa.BigInteger()),
    )
