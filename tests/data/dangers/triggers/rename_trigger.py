"""Rename a trigger, which changes the order of triggers."""

from alembic import op

# rehearse: no, trigger a_orders_touch on orders: was added
# lock: ACCESS EXCLUSIVE on orders
revision = "rename_trigger"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TRIGGER orders_touch ON orders RENAME TO a_orders_touch")  # <- trigger


def downgrade() -> None:
    op.execute("ALTER TRIGGER a_orders_touch ON orders RENAME TO orders_touch")
