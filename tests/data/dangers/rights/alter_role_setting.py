"""Change a setting for all sessions of a role."""

from alembic import op

# rehearse: no, settings of role app: was added
# lock: no table
revision = "alter_role_setting"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER ROLE app SET statement_timeout = 0")  # <- alter-role


def downgrade() -> None:
    op.execute("ALTER ROLE app RESET statement_timeout")
