"""Add a column that may be NULL."""

import sqlalchemy as sa

import safely

revision = "add_column"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("nickname", sa.Text()))


def downgrade() -> None:
    safely.drop_column("customers", "nickname")
