"""Let a trigger fire on replicas too."""

from alembic import op

# rehearse: no, trigger orders_touch on orders: was
# lock: SHARE ROW EXCLUSIVE on orders
revision = "enable_always_trigger"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders ENABLE ALWAYS TRIGGER orders_touch")  # <- trigger


def downgrade() -> None:
    op.execute("ALTER TABLE orders ENABLE TRIGGER orders_touch")
