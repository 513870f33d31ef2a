"""Index a column, then let it refer to a table."""

import safely

revision = "foreign_key_with_its_index"
down_revision = "schema"


def upgrade() -> None:
    safely.create_index("ix_payments_order_id", "payments", ["order_id"])
    safely.create_foreign_key("fk_payments_order_id", "payments", "orders", ["order_id"], ["id"])


def downgrade() -> None:
    safely.drop_constraint("fk_payments_order_id", "payments")
    safely.drop_index("ix_payments_order_id", "payments")
