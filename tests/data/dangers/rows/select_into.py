"""Copy a table into a new one by SELECT INTO."""

from alembic import op

import safely

# rehearse: no, rows were copied to customer_copy at once
# lock: no table
revision = "select_into"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT id, name INTO customer_copy FROM customers")  # <- create-table-as


def downgrade() -> None:
    safely.drop_table("customer_copy")
