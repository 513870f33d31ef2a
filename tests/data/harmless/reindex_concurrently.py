"""Rebuild an index while its table is in use."""

from alembic import op

import safely

revision = "reindex_concurrently"
down_revision = "schema"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("REINDEX INDEX CONCURRENTLY ix_orders_customer_id")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
