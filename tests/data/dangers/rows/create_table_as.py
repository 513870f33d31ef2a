"""Copy a table into a new one in one statement."""

from alembic import op

import safely

# rehearse: no, rows were copied to orders_2024 at once
# lock: no table
revision = "create_table_as"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- create-table-as
        "CREATE TABLE orders_2024 AS SELECT * FROM orders WHERE placed_at < '2025-01-01'"
    )


def downgrade() -> None:
    safely.drop_table("orders_2024")
