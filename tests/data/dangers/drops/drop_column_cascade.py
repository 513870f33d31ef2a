"""Drop a column, and all that depends on it."""

from alembic import op

import safely

# rehearse: no, `ALTER TABLE customers DROP COLUMN name CASCADE` takes customers
# lock: ACCESS EXCLUSIVE on customers
# not in the SQL: ACCESS EXCLUSIVE on customer_list
revision = "drop_column_cascade"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE customers DROP COLUMN name CASCADE")  # <- cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
