"""Make a column unique while its index is built."""

from alembic import op

import safely

# rehearse: no, could not create unique index "uq_products_name"
# lock: ACCESS EXCLUSIVE on products
revision = "unique_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.create_unique_constraint("uq_products_name", "products", ["name"])  # <- unique-at-once


def downgrade() -> None:
    safely.drop_constraint("uq_products_name", "products")
