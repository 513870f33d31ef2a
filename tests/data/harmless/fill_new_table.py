"""Create a table and insert its rows."""

import sqlalchemy as sa
from alembic import op

import safely

revision = "fill_new_table"
down_revision = "schema"


def upgrade() -> None:
    safely.create_table(
        "plans",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
    )
    op.execute("INSERT INTO plans (name) VALUES ('free'), ('paid')")


def downgrade() -> None:
    safely.drop_table("plans")
