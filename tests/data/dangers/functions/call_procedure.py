"""Call a procedure whose effect can't be seen."""

from alembic import op

import safely

# rehearse: no, duplicate key value violates unique constraint "old_orders_pkey"
# lock: no table
# not in the SQL: ROW EXCLUSIVE on old_orders
revision = "call_procedure"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CALL archive_orders()")  # <- unseen


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
