"""Add a check that looks at every row, in SQL."""

from alembic import op

import safely

# rehearse: no, rows of products were read under a lock on
# lock: ACCESS EXCLUSIVE on products
revision = "check_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- check-at-once
        "ALTER TABLE products ADD CONSTRAINT ck_products_price CHECK (price > 0)"
    )


def downgrade() -> None:
    safely.drop_constraint("ck_products_price", "products")
