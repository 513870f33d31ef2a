"""Add a column with a foreign key."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, rows of customers were read under a lock on
# lock: ACCESS EXCLUSIVE on customers, SHARE ROW EXCLUSIVE on products
revision = "column_with_foreign_key"
down_revision = "schema"


def upgrade() -> None:
    op.add_column(  # <- foreign-key-at-once
        "customers",
        sa.Column("favourite", sa.BigInteger(), sa.ForeignKey("products.id", name="fk_favourite")),
    )


def downgrade() -> None:
    safely.drop_column("customers", "favourite")
