"""Store totals as floating-point numbers, which SQLite does anyway."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade():
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute("ALTER TABLE orders ALTER COLUMN total TYPE DOUBLE PRECISION")  # <- type-change


def downgrade():
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE orders ALTER COLUMN total TYPE NUMERIC(10, 2)")  # <- type-change
        return
    op.drop_column("orders", "total")
