"""Drop a table, and all that depends on it."""

from alembic import op

import safely

# rehearse: no, `DROP TABLE customers CASCADE` takes customers
# lock: ACCESS EXCLUSIVE on customers
# not in the SQL: ACCESS EXCLUSIVE on orders, ACCESS EXCLUSIVE on customer_list
revision = "drop_table_cascade"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP TABLE customers CASCADE")  # <- cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
