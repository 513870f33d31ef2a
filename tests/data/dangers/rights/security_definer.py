"""Let a function run with its owner's rights and the caller's search_path."""

from alembic import op

# rehearse: no, function total_sales(): was added
# lock: no table
revision = "security_definer"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- security-definer
        "CREATE FUNCTION total_sales() RETURNS numeric LANGUAGE sql SECURITY DEFINER AS 'SELECT "
        "sum(total) FROM orders'"
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION total_sales()")
