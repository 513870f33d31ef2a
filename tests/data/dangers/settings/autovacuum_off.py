"""Switch autovacuum off for a table."""

from alembic import op

# rehearse: no, table orders: was "table", is now "table WITH (autovacuum_enabled=off)"
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "autovacuum_off"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders SET (autovacuum_enabled = off)")  # <- autovacuum-off


def downgrade() -> None:
    op.execute("ALTER TABLE orders RESET (autovacuum_enabled)")
