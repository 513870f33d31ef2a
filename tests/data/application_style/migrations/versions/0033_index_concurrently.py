"""Build an index while clients write."""

from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("ix_orders_total", "orders", ["total"], postgresql_concurrently=True)  # <- raw-op


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("ix_orders_total", table_name="orders", postgresql_concurrently=True)  # <- raw-op
