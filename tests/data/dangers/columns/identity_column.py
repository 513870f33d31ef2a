"""Add an identity column."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, all of payments was written anew
# lock: ACCESS EXCLUSIVE on payments
revision = "identity_column"
down_revision = "schema"


def upgrade() -> None:
    op.add_column(  # <- volatile-default
        "payments", sa.Column("line", sa.BigInteger(), sa.Identity())
    )


def downgrade() -> None:
    safely.drop_column("payments", "line")
