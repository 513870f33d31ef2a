"""Empty a table and all that refer to it."""

from alembic import op

import safely

# lock: ACCESS EXCLUSIVE on orders, ACCESS EXCLUSIVE on customers
revision = "truncate_cascade"
down_revision = "schema"


def upgrade() -> None:
    op.execute("TRUNCATE TABLE customers RESTART IDENTITY CASCADE")  # <- truncate


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
