"""Let queries ask another server."""

from alembic import op

# rehearse: no, foreign server reports: was added
# lock: no table
revision = "foreign_server"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- outside-database
        "CREATE SERVER reports FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'reports')"
    )


def downgrade() -> None:
    op.execute("DROP SERVER reports")
