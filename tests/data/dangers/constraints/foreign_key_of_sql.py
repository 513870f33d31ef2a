"""Add a foreign key that looks up every row, in SQL."""

from alembic import op

import safely

# rehearse: no, were read under a lock on
# lock: SHARE ROW EXCLUSIVE on orders, SHARE ROW EXCLUSIVE on products
revision = "foreign_key_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- foreign-key-at-once
        "ALTER TABLE orders ADD CONSTRAINT fk_orders_product_id FOREIGN KEY (product_id) "
        "REFERENCES products (id) ON DELETE SET NULL"
    )


def downgrade() -> None:
    safely.drop_constraint("fk_orders_product_id", "orders")
