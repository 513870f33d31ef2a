"""Drop a foreign key, which locks both of its tables."""

from alembic import op

import safely

# rehearse: yes, the keys that clients write are as before; what builds expect is not known
# lock: ACCESS EXCLUSIVE on orders, ACCESS EXCLUSIVE on customers
revision = "drop_foreign_key"
down_revision = "schema"


def upgrade() -> None:
    op.drop_constraint("fk_orders_customer_id", "orders", type_="foreignkey")  # <- drop-constraint


def downgrade() -> None:
    safely.create_foreign_key(
        "fk_orders_customer_id", "orders", "customers", ["customer_id"], ["id"]
    )
