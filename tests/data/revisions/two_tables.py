"""record the tenant of users and of answers.

Bad on purpose: while it waits for the second table, every client waits for the first.
"""

import sqlalchemy as sa
from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("users", sa.Column("tenant", sa.Text()))
    op.add_column("idempotency_key", sa.Column("tenant", sa.Text()))


def downgrade() -> None:
    safely.drop_column("idempotency_key", "tenant")
    safely.drop_column("users", "tenant")
