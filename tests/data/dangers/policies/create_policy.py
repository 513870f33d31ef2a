"""Show rows to a role."""

from alembic import op

# rehearse: no, policy refunds on payments: was added
# lock: ACCESS EXCLUSIVE on payments
revision = "create_policy"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE POLICY refunds ON payments FOR SELECT USING (amount < 0)")  # <- policy


def downgrade() -> None:
    op.execute("DROP POLICY refunds ON payments")
