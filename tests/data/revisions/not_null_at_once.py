"""give users a status, and require it.

Bad on purpose: NOT NULL in one step checks every row while reads and writes of users wait.
"""

import sqlalchemy as sa
from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("users", sa.Column("status", sa.Text(), server_default="new"))
    op.alter_column("users", "status", nullable=False)


def downgrade() -> None:
    safely.drop_column("users", "status")
