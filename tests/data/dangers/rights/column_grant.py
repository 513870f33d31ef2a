"""Give a right on single columns."""

from alembic import op

# rehearse: yes, the right is that of a role which no build uses
# lock: no table
revision = "column_grant"
down_revision = "schema"


def upgrade() -> None:
    op.execute("GRANT SELECT (id, name) ON customers TO reporting")  # <- column-grant


def downgrade() -> None:
    op.execute("REVOKE SELECT (id, name) ON customers FROM reporting")
