"""Read the table before the change."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"


def upgrade():
    bind = op.get_bind()
    orders = sa.Table("orders", sa.MetaData(), autoload_with=bind)  # <- reads-database
    if "currency" in orders.c:
        bind.execute(orders.update().values(currency="EUR"))  # <- unseen
    foreign_keys = sa.inspect(bind).get_foreign_keys("orders")
    for key in foreign_keys:
        op.drop_constraint(key["name"], "orders", type_="foreignkey")  # <- drop-constraint


def downgrade():
    op.create_foreign_key("fk_orders_user", "orders", "users", ["user_id"], ["id"])  # <- foreign-key-at-once
