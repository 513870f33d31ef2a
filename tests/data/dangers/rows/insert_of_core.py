"""Copy rows in one statement, in SQLAlchemy Core."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, duplicate key value violates unique constraint "old_orders_pkey"
# lock: ROW EXCLUSIVE on old_orders
revision = "insert_of_core"
down_revision = "schema"


def upgrade() -> None:
    orders = sa.table("orders", sa.column("id"), sa.column("product_id"))
    old_orders = sa.table("old_orders", sa.column("id"), sa.column("product_id"))
    op.execute(  # <- insert-select
        sa.insert(old_orders).from_select(["id", "product_id"], sa.select(orders))
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
