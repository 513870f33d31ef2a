"""Create a table."""

import sqlalchemy as sa

import safely

revision = "create_table"
down_revision = "schema"


def upgrade() -> None:
    safely.create_table(
        "labels",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
    )


def downgrade() -> None:
    safely.drop_table("labels")
