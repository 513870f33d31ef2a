"""Add a column as `safely` refuses it."""

import sqlalchemy as sa

import safely

# rehearse: no, customers.region is NOT NULL without a server_default
# lock: no table
revision = "refused"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("region", sa.Text(), nullable=False))  # <- refused


def downgrade() -> None:
    safely.drop_column("customers", "region")
