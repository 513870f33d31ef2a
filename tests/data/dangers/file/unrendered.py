"""Fail while the revision is printed."""

from alembic import op

import safely

# rehearse: no, ZeroDivisionError: division by zero
# lock: no table
revision = "unrendered"
down_revision = "schema"


def upgrade() -> None:
    op.execute(f"SELECT {1 / 0}")  # <- unrendered


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
