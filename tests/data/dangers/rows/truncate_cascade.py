"""Empty a table and all that refer to it."""

from alembic import op

import safely

# rehearse: no, all of customers was written anew
# lock: ACCESS EXCLUSIVE on customers
# not in the SQL: ACCESS EXCLUSIVE on orders
revision = "truncate_cascade"
down_revision = "schema"


def upgrade() -> None:
    op.execute("TRUNCATE TABLE customers RESTART IDENTITY CASCADE")  # <- cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
