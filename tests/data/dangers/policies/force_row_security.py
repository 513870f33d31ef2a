"""Apply the policies to the owner as well, and so to every published version."""

from alembic import op

# rehearse: no, table payments: was "table ROW SECURITY", is now "table ROW SECURITY FORCE
# lock: ACCESS EXCLUSIVE on payments
revision = "force_row_security"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE payments FORCE ROW LEVEL SECURITY")  # <- row-security


def downgrade() -> None:
    op.execute("ALTER TABLE payments NO FORCE ROW LEVEL SECURITY")
