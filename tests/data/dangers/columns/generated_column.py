"""Add a generated column that is stored."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, all of orders was written anew
# lock: ACCESS EXCLUSIVE on orders
revision = "generated_column"
down_revision = "schema"


def upgrade() -> None:
    op.add_column(  # <- volatile-default
        "orders", sa.Column("gross", sa.Numeric(), sa.Computed("total * 1.2", persisted=True))
    )


def downgrade() -> None:
    safely.drop_column("orders", "gross")
