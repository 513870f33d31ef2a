"""Detach a partition CONCURRENTLY in a transaction, which PostgreSQL refuses."""

from alembic import op

import safely

# rehearse: no, ALTER TABLE ... DETACH CONCURRENTLY cannot run inside a transaction block
# lock: SHARE UPDATE EXCLUSIVE on measurements, ACCESS EXCLUSIVE on measurements_2024
revision = "detach_concurrently"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- concurrently-in-transaction
        "ALTER TABLE measurements DETACH PARTITION measurements_2024 CONCURRENTLY"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
