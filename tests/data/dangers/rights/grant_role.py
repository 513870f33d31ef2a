"""Give a role the rights of another."""

from alembic import op

# rehearse: no, role reporting: was …, is now "member of app_owner"
# lock: no table
revision = "grant_role"
down_revision = "schema"


def upgrade() -> None:
    op.execute("GRANT app_owner TO reporting")  # <- alter-role


def downgrade() -> None:
    op.execute("REVOKE app_owner FROM reporting")
