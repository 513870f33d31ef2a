"""Vacuum a table more often."""

from alembic import op

import safely

revision = "autovacuum"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders SET (autovacuum_vacuum_scale_factor = 0.05)")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
