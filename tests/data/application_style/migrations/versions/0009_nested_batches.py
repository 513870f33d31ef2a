"""Link two tables in nested batches."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade():
    with op.batch_alter_table("orders") as orders, op.batch_alter_table("items") as items:
        orders.create_foreign_key("fk_orders_user", "users", ["user_id"], ["id"])  # <- foreign-key-at-once, two-tables
        items.add_column(sa.Column("order_id", sa.BigInteger()))


def downgrade():
    with op.batch_alter_table("orders") as orders:
        with op.batch_alter_table("items") as items:
            items.drop_column("order_id")  # <- lossy-downgrade
        orders.drop_constraint("fk_orders_user", type_="foreignkey")  # <- drop-constraint
