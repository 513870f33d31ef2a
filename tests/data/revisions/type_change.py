"""widen age.

Bad on purpose: changing the type in place rewrites users; PostgreSQL refuses it while a
published version shows the column.
"""

import sqlalchemy as sa
from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.alter_column("users", "age", type_=sa.BigInteger(), existing_type=sa.Integer())


def downgrade() -> None:
    safely.change_type("users", "age", sa.Integer())
