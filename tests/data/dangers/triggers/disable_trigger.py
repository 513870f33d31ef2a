"""Disable a trigger."""

from alembic import op

# rehearse: no, trigger orders_touch on orders: was … DISABLED
# lock: SHARE ROW EXCLUSIVE on orders
revision = "disable_trigger"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders DISABLE TRIGGER orders_touch")  # <- disable-trigger


def downgrade() -> None:
    op.execute("ALTER TABLE orders ENABLE TRIGGER orders_touch")
