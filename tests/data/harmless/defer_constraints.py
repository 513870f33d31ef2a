"""Check constraints at the end of the transaction."""

from alembic import op

import safely

# rehearse: cannot run, duplicate key value violates unique constraint "products_pkey"
revision = "defer_constraints"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET CONSTRAINTS ALL DEFERRED")
    op.execute("UPDATE products SET id = 12 WHERE id = 11")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
