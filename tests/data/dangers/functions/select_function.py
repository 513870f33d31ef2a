"""Call a function whose effect can't be seen."""

from alembic import op

import safely

# rehearse: no, rows of orders changed at once
# lock: no table
# not in the SQL: ROW EXCLUSIVE on orders
revision = "select_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT close_orders()")  # <- unseen


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
