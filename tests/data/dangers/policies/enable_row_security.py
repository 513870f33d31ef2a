"""Hide all rows that no policy shows."""

from alembic import op

# rehearse: no, table orders: was "table", is now "table ROW SECURITY"
# lock: ACCESS EXCLUSIVE on orders
revision = "enable_row_security"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")  # <- row-security


def downgrade() -> None:
    op.execute("ALTER TABLE orders DISABLE ROW LEVEL SECURITY")
