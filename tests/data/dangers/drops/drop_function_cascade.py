"""Drop a function, and the triggers that call it."""

from alembic import op

import safely

# rehearse: no, function touch() was dropped, not set aside
# lock: no table
# not in the SQL: ACCESS EXCLUSIVE on orders
revision = "drop_function_cascade"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP FUNCTION touch() CASCADE")  # <- cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
