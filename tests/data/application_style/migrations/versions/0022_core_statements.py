"""Change rows by statements of Core."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


orders = sa.table("orders", sa.column("id"), sa.column("state"), sa.column("total"))


def upgrade():
    op.execute(orders.update().values(state="open").where(orders.c.state == sa.null()))  # <- backfill-at-once, unrendered
    op.execute(sa.delete(orders).where(orders.c.total < 0))  # <- delete-at-once
    op.execute(sa.update(orders).where(orders.c.id == 7).values(total=1))  # <- unrendered
    op.execute(orders.insert().values({"state": "new", "total": 3}))  # <- unrendered


def downgrade():  # <- empty-downgrade
    pass
