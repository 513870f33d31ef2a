"""Add a column with a constant default."""

import sqlalchemy as sa

import safely

revision = "add_column_with_default"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column(
        "customers", sa.Column("tier", sa.Text(), server_default="basic", nullable=False)
    )


def downgrade() -> None:
    safely.drop_column("customers", "tier")
