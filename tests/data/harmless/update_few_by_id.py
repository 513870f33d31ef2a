"""Change three rows by their ids."""

from alembic import op

import safely

revision = "update_few_by_id"
down_revision = "schema"


def upgrade() -> None:
    op.execute("UPDATE products SET name = 'Pen' WHERE id IN (1, 2, 3) AND name IS NULL")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
