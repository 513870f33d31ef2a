"""Build an index while clients write, by a helper that ends the transaction."""

from alembic import op
from shop_schema import create_index_at_leisure  # <- imports-application

revision = "0065"
down_revision = "0064"


def upgrade():
    create_index_at_leisure("ix_users_age_status", "users", ["age", "status"])  # <- transaction-control, raw-op
    with op.get_bind().begin_nested():
        op.execute("SELECT 1")


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("ix_users_age_status", table_name="users", postgresql_concurrently=True)  # <- raw-op
