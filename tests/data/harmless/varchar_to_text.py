"""Turn a varchar into text."""

import sqlalchemy as sa

import safely

revision = "varchar_to_text"
down_revision = "schema"


def upgrade() -> None:
    safely.change_type("payments", "receipt", sa.Text())


def downgrade() -> None:
    safely.change_type("payments", "receipt", sa.String(50))
