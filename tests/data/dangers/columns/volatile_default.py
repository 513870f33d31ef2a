"""Add a column whose default differs from row to row."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, all of customers was written anew
# lock: ACCESS EXCLUSIVE on customers
revision = "volatile_default"
down_revision = "schema"


def upgrade() -> None:
    op.add_column(  # <- volatile-default
        "customers",
        sa.Column("token", sa.Uuid(), server_default=sa.text("gen_random_uuid()")),
    )


def downgrade() -> None:
    safely.drop_column("customers", "token")
