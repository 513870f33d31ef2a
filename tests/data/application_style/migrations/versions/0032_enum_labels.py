"""Add a label outside of the transaction."""

from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade():
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE payment_state ADD VALUE IF NOT EXISTS 'refunded'")  # <- raw-op, require-enum-value-ordering
    op.execute("UPDATE orders SET payment = 'paid' WHERE payment IS NULL")  # <- backfill-at-once


def downgrade():  # <- empty-downgrade
    pass
