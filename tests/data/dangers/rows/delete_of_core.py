"""Delete rows, in SQLAlchemy Core."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: yes, no row has such an amount
# lock: ROW EXCLUSIVE on payments
revision = "delete_of_core"
down_revision = "schema"


def upgrade() -> None:
    payments = sa.table("payments", sa.column("amount"))
    op.execute(sa.delete(payments).where(payments.c.amount == 0))  # <- delete-at-once


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
