"""Index an expression, for part of the rows."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, rows of customers were read under a lock on
# lock: SHARE on customers
revision = "expression_index"
down_revision = "schema"


def upgrade() -> None:
    op.create_index(  # <- plain-index
        "ix_customers_lower_name",
        "customers",
        [sa.text("lower(name)")],
        postgresql_where=sa.text("phone IS NOT NULL"),
    )


def downgrade() -> None:
    safely.drop_index("ix_customers_lower_name", "customers")
