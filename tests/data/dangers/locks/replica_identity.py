"""Change what replication tells of a row."""

from alembic import op

# lock: ACCESS EXCLUSIVE on orders
revision = "replica_identity"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders REPLICA IDENTITY FULL")  # <- brief-lock


def downgrade() -> None:
    op.execute("ALTER TABLE orders REPLICA IDENTITY DEFAULT")
