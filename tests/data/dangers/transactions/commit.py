"""Commit in the middle of a step."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, the transaction ended before its step: COMMIT
# lock: no table
revision = "commit"
down_revision = "schema"


def upgrade() -> None:
    op.execute("COMMIT")  # <- transaction-control
    safely.add_column("customers", sa.Column("nickname", sa.Text()))


def downgrade() -> None:
    safely.drop_column("customers", "nickname")
