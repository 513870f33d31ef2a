"""Leave space in the pages of a table."""

from alembic import op

import safely

revision = "fillfactor"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders SET (fillfactor = 90)")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
