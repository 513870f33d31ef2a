"""Widen an integer, which rewrites the table."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot alter type of a column used
# lock: ACCESS EXCLUSIVE on customers
revision = "integer_to_bigint"
down_revision = "schema"


def upgrade() -> None:
    op.alter_column(  # <- type-change
        "customers", "age", type_=sa.BigInteger(), existing_type=sa.Integer()
    )


def downgrade() -> None:
    safely.change_type("customers", "age", sa.Integer())
