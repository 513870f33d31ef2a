"""Lock every row of a table, in a subquery."""

from alembic import op

import safely

# rehearse: no, rows of orders were locked at once
# lock: no table
revision = "rows_in_subquery"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT count(*) FROM (SELECT id FROM orders FOR UPDATE) AS rows")  # <- row-locks


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
