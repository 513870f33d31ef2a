"""Add a foreign key that looks up every row."""

from alembic import op

import safely

# rehearse: no, were read under a lock on
# lock: SHARE ROW EXCLUSIVE on orders, SHARE ROW EXCLUSIVE on products
revision = "foreign_key_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.create_foreign_key(  # <- foreign-key-at-once
        "fk_orders_product_id", "orders", "products", ["product_id"], ["id"]
    )


def downgrade() -> None:
    safely.drop_constraint("fk_orders_product_id", "orders")
