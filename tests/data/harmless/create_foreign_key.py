"""Add a foreign key in two steps, on a column with an index."""

import safely

revision = "create_foreign_key"
down_revision = "schema"


def upgrade() -> None:
    safely.create_foreign_key("fk_orders_product_id", "orders", "products", ["product_id"], ["id"])


def downgrade() -> None:
    safely.drop_constraint("fk_orders_product_id", "orders")
