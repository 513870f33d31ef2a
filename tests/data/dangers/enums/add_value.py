"""Add an enum value in plain SQL."""

from alembic import op

import safely

# rehearse: no, enum label "dormant" already exists
# lock: no table
revision = "add_value"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TYPE customer_status ADD VALUE 'dormant' AFTER 'active'")  # <- raw-op


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
