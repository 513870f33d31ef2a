"""Take a right from a role that clients use."""

from alembic import op

# rehearse: no, grant on orders to app: is gone
# lock: no table
revision = "revoke"
down_revision = "schema"


def upgrade() -> None:
    op.execute("REVOKE INSERT, UPDATE ON orders FROM app")  # <- revoke


def downgrade() -> None:
    op.execute("GRANT INSERT, UPDATE ON orders TO app")
