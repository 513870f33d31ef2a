"""Give rights on all tables to come."""

from alembic import op

# rehearse: no, default grant on tables in schema public by postgres to reporting: was added
# lock: no table
revision = "default_privileges"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- default-privileges
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reporting"
    )


def downgrade() -> None:
    op.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE SELECT ON TABLES FROM reporting")
