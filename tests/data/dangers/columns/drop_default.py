"""Drop the default of a column that older builds leave out."""

from alembic import op

import safely

# rehearse: no, at_roles: NotNullViolationError: null value in column "state"
# lock: ACCESS EXCLUSIVE on orders
revision = "drop_default"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE orders ALTER COLUMN state DROP DEFAULT")  # <- drop-default


def downgrade() -> None:
    safely.change_default("orders", "state", "new")
