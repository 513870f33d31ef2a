"""Validate a foreign key in the transaction that adds it."""

from alembic import op

import safely

# rehearse: no, were read under a lock on
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "foreign_key_and_validate"
down_revision = "schema"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE orders ADD CONSTRAINT fk_orders_product_id FOREIGN KEY (product_id) "
        "REFERENCES products (id) NOT VALID"
    )
    op.execute(  # <- check-and-validate
        "ALTER TABLE orders VALIDATE CONSTRAINT fk_orders_product_id"
    )


def downgrade() -> None:
    safely.drop_constraint("fk_orders_product_id", "orders")
