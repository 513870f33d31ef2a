"""Widen a varchar."""

import sqlalchemy as sa

import safely

revision = "widen_varchar"
down_revision = "schema"


def upgrade() -> None:
    safely.change_type("payments", "receipt", sa.String(200))


def downgrade() -> None:
    safely.change_type("payments", "receipt", sa.String(50))
