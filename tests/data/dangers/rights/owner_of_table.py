"""Give a table to another role."""

from alembic import op

import safely

# lock: ACCESS EXCLUSIVE on orders
revision = "owner_of_table"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders OWNER TO app_owner")  # <- owner


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
