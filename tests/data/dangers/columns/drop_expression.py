"""Turn a generated column into a plain one, which nobody fills in."""

from alembic import op

import safely

# rehearse: no, column products.worth: was "numeric GENERATED …, is now "numeric"
# lock: ACCESS EXCLUSIVE on products
revision = "drop_expression"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE products ALTER COLUMN worth DROP EXPRESSION")  # <- drop-expression


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
