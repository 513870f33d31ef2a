"""Set a column aside."""

import sqlalchemy as sa

import safely

revision = "drop_column"
down_revision = "schema"


def upgrade() -> None:
    safely.drop_column("customers", "phone")


def downgrade() -> None:
    safely.add_column("customers", sa.Column("phone", sa.Text()))
