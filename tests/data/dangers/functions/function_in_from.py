"""Call a function in FROM whose effect can't be seen."""

from alembic import op

import safely

# rehearse: no, rows of orders changed at once
# lock: no table
# not in the SQL: ROW EXCLUSIVE on orders
revision = "function_in_from"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT * FROM close_orders() AS closed")  # <- unseen


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
