"""Undo what the step did, and report success."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, the transaction ended before its step: ROLLBACK
# lock: no table
revision = "rollback"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("nickname", sa.Text()))
    op.execute("ROLLBACK")  # <- transaction-control


def downgrade() -> None:
    safely.drop_column("customers", "nickname")
