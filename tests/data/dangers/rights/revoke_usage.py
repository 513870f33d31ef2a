"""Hide a schema from a role."""

from alembic import op

# rehearse: no, grant on schema public to app: is gone
# lock: no table
revision = "revoke_usage"
down_revision = "schema"


def upgrade() -> None:
    op.execute("REVOKE USAGE ON SCHEMA public FROM app")  # <- revoke


def downgrade() -> None:
    op.execute("GRANT USAGE ON SCHEMA public TO app")
