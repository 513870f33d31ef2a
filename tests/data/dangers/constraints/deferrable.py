"""Make a foreign key deferrable."""

from alembic import op

import safely

# rehearse: yes, the lock is held for an instant
# lock: ACCESS EXCLUSIVE on orders
revision = "deferrable"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- brief-lock
        "ALTER TABLE orders ALTER CONSTRAINT fk_orders_customer_id DEFERRABLE"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
