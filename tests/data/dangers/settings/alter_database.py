"""Change a setting for all sessions of a database."""

from alembic import op

# rehearse: no, settings of database postgres: was added
# lock: no table
revision = "alter_database"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER DATABASE postgres SET timezone = 'UTC'")  # <- alter-system


def downgrade() -> None:
    op.execute("ALTER DATABASE postgres RESET timezone")
