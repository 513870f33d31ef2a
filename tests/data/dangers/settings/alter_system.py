"""Change a setting of the whole server."""

from alembic import op

# rehearse: no, setting max_connections: was added
# lock: no table
revision = "alter_system"
down_revision = "schema"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER SYSTEM SET max_connections = 500")  # <- alter-system


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER SYSTEM RESET max_connections")
