"""Create a table in plain Alembic."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: yes, nobody uses the new table yet
# lock: no table
revision = "create_table"
down_revision = "schema"


def upgrade() -> None:
    op.create_table(  # <- raw-op
        "labels", sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True)
    )


def downgrade() -> None:
    safely.drop_table("labels")
