"""Call a function by SQLAlchemy Core."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, rows of orders changed at once
# lock: no table
# not in the SQL: ROW EXCLUSIVE on orders
revision = "function_of_core"
down_revision = "schema"


def upgrade() -> None:
    op.execute(sa.select(sa.func.close_orders()))  # <- unseen


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
