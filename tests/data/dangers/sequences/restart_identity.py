"""Restart an identity, which hands out ids twice."""

from alembic import op

import safely

# rehearse: no, sequence public.orders_id_seq went back from
# lock: ACCESS EXCLUSIVE on orders
revision = "restart_identity"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders ALTER COLUMN id RESTART WITH 1")  # <- sequence-restart


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
