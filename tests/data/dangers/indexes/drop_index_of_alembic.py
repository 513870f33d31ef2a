"""Drop an index of a table in use."""

from alembic import op

import safely

# rehearse: no, foreign key fk_orders_customer_id on orders without an index: was added
# lock: ACCESS EXCLUSIVE on orders
revision = "drop_index_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.drop_index("ix_orders_customer_id", table_name="orders")  # <- plain-index-drop


def downgrade() -> None:
    safely.create_index("ix_orders_customer_id", "orders", ["customer_id"])
