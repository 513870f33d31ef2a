"""Add a serial column."""

from alembic import op

import safely

# rehearse: no, all of payments was written anew
# lock: ACCESS EXCLUSIVE on payments
revision = "serial_column"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE payments ADD COLUMN line bigserial")  # <- volatile-default


def downgrade() -> None:
    safely.drop_column("payments", "line")
