"""Create a role, which all databases of the server share."""

from alembic import op

# rehearse: no, role auditor: was added
# lock: no table
revision = "create_role"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE ROLE auditor LOGIN PASSWORD 'change me'")  # <- alter-role


def downgrade() -> None:
    op.execute("DROP ROLE auditor")
