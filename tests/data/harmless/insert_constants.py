"""Insert one row, unless it is there."""

from alembic import op

import safely

# rehearse: cannot run, duplicate key value violates unique constraint "products_pkey"
revision = "insert_constants"
down_revision = "schema"


def upgrade() -> None:
    op.execute("INSERT INTO products (id, name) SELECT 12, 'Pen' WHERE 12 > 11")


def downgrade() -> None:
    safely.nothing_to_undo("the product may stay")
