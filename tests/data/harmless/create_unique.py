"""Make a column unique by an index that is built concurrently."""

import safely

revision = "create_unique"
down_revision = "schema"


def upgrade() -> None:
    safely.create_unique_constraint("uq_payments_receipt", "payments", ["receipt"])


def downgrade() -> None:
    safely.drop_constraint("uq_payments_receipt", "payments")
