"""Compute a materialized view anew while it is read."""

from alembic import op

import safely

# rehearse: cannot run, cannot refresh materialized view
revision = "refresh_concurrently"
down_revision = "schema"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY sales_by_day")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
