"""Create a table that refers to two tables in use."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, one transaction locked customers and products
# lock: SHARE ROW EXCLUSIVE on customers, SHARE ROW EXCLUSIVE on products
revision = "foreign_keys_of_new_table"
down_revision = "schema"


def upgrade() -> None:
    op.create_table(  # <- two-tables
        "favourites",
        sa.Column("customer_id", sa.BigInteger(), sa.ForeignKey("customers.id"), primary_key=True),
        sa.Column("product_id", sa.BigInteger(), sa.ForeignKey("products.id"), primary_key=True),
    )


def downgrade() -> None:
    safely.drop_table("favourites")
