"""Change a role, which all databases of the server share."""

from alembic import op

# rehearse: no, role reporting: was …, is now "SUPERUSER"
# lock: no table
revision = "alter_role"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER ROLE reporting SUPERUSER")  # <- alter-role


def downgrade() -> None:
    op.execute("ALTER ROLE reporting NOSUPERUSER")
