"""Show other rows."""

from alembic import op

import safely

# rehearse: no, policy own_payments on payments: was
# lock: ACCESS EXCLUSIVE on payments
revision = "alter_policy"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER POLICY own_payments ON payments USING (true)")  # <- policy


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
