"""Change what replication tells of a row."""

from alembic import op

# rehearse: no, table orders: was "table", is now "table REPLICA IDENTITY FULL"
# lock: ACCESS EXCLUSIVE on orders
revision = "replica_identity"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders REPLICA IDENTITY FULL")  # <- brief-lock


def downgrade() -> None:
    op.execute("ALTER TABLE orders REPLICA IDENTITY DEFAULT")
