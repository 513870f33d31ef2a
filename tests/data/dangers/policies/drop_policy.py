"""Hide the rows that a policy showed."""

from alembic import op

import safely

# rehearse: no, policy own_payments on payments was dropped, not set aside
# lock: ACCESS EXCLUSIVE on payments
revision = "drop_policy"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP POLICY own_payments ON payments")  # <- policy


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
