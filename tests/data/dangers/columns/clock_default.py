"""Add a column with the clock's time as default."""

from alembic import op

import safely

# rehearse: no, all of orders was written anew
# lock: ACCESS EXCLUSIVE on orders
revision = "clock_default"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- volatile-default
        "ALTER TABLE orders ADD COLUMN seen_at timestamptz DEFAULT clock_timestamp()"
    )


def downgrade() -> None:
    safely.drop_column("orders", "seen_at")
