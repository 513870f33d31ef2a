"""Give a table to another role."""

from alembic import op

import safely

# rehearse: no, owner of public.orders: was "postgres", is now "app_owner"
# lock: ACCESS EXCLUSIVE on orders
revision = "owner_of_table"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders OWNER TO app_owner")  # <- owner


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
