"""Compute a generated column anew for every row."""

from alembic import op

import safely

# rehearse: no, all of products was written anew
# lock: ACCESS EXCLUSIVE on products
revision = "change_expression"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- rewrite
        "ALTER TABLE products ALTER COLUMN worth SET EXPRESSION AS (price * stock * 2)"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
