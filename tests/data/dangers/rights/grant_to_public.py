"""Give a right to every role."""

from alembic import op

# rehearse: no, grant on customers to PUBLIC: was added
# lock: no table
revision = "grant_to_public"
down_revision = "schema"


def upgrade() -> None:
    op.execute("GRANT SELECT ON customers TO PUBLIC")  # <- grant-to-public


def downgrade() -> None:
    op.execute("REVOKE SELECT ON customers FROM PUBLIC")
