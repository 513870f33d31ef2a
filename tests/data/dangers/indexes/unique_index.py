"""Add a unique index to a table in use."""

from alembic import op

import safely

# rehearse: no, rows of payments were read under a lock on
# lock: SHARE on payments
revision = "unique_index"
down_revision = "schema"


def upgrade() -> None:
    op.create_index("ux_payments_receipt", "payments", ["receipt"], unique=True)  # <- plain-index


def downgrade() -> None:
    safely.drop_index("ux_payments_receipt", "payments")
