"""Drop an index, concurrently."""

import safely

revision = "drop_index"
down_revision = "schema"


def upgrade() -> None:
    safely.drop_index("ix_customers_phone", "customers")


def downgrade() -> None:
    safely.create_index("ix_customers_phone", "customers", ["phone"])
