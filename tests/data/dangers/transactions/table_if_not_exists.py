"""Create a table unless another one has its name."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: yes, no table of this name is there
# lock: no table
revision = "table_if_not_exists"
down_revision = "schema"


def upgrade() -> None:
    op.create_table(  # <- if-not-exists
        "labels", sa.Column("id", sa.BigInteger(), sa.Identity()), if_not_exists=True
    )


def downgrade() -> None:
    safely.drop_table("labels")
