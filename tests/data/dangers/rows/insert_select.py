"""Copy all rows of a table in one statement."""

from alembic import op

import safely

# rehearse: no, duplicate key value violates unique constraint "old_orders_pkey"
# lock: ROW EXCLUSIVE on old_orders
revision = "insert_select"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- insert-select
        "INSERT INTO old_orders (id, product_id) SELECT id, product_id FROM orders"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
