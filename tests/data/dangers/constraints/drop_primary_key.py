"""Drop a primary key, on which upserts and replication rely."""

from alembic import op

import safely

# rehearse: no, after the downgrade: constraint orders_pkey on orders: is gone
# lock: ACCESS EXCLUSIVE on orders
revision = "drop_primary_key"
down_revision = "schema"


def upgrade() -> None:
    op.drop_constraint("orders_pkey", "orders", type_="primary")  # <- drop-constraint


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
