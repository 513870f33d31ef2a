"""Keep rows in a table that ends with the session."""

from alembic import op

import safely

revision = "temporary_table"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE TEMPORARY TABLE new_orders AS SELECT id FROM orders WHERE state = 'new'")
    op.execute("DELETE FROM new_orders WHERE id = 1")
    op.execute("DROP TABLE new_orders")


def downgrade() -> None:
    safely.nothing_to_undo("the table has ended with the session")
