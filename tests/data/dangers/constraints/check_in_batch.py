"""Add a check in a batch."""

from alembic import op

import safely

# rehearse: no, ck_payments_amount
# lock: ACCESS EXCLUSIVE on payments
revision = "check_in_batch"
down_revision = "schema"


def upgrade() -> None:
    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.create_check_constraint("ck_payments_amount", "amount > 0")  # <- check-at-once


def downgrade() -> None:
    safely.drop_constraint("ck_payments_amount", "payments")
