"""Show every row to everybody."""

from alembic import op

# rehearse: no, table payments: was "table ROW SECURITY", is now "table"
# lock: ACCESS EXCLUSIVE on payments
revision = "disable_row_security"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE payments DISABLE ROW LEVEL SECURITY")  # <- row-security


def downgrade() -> None:
    op.execute("ALTER TABLE payments ENABLE ROW LEVEL SECURITY")
