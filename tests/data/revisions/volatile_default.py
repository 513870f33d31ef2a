"""give users a token.

Bad on purpose: the default differs from row to row, so PostgreSQL rewrites users.
"""

import sqlalchemy as sa
from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column(
        "users", sa.Column("token", sa.Uuid(), server_default=sa.text("gen_random_uuid()"))
    )


def downgrade() -> None:
    safely.drop_column("users", "token")
