"""Give a right on a table to one role."""

from alembic import op

import safely

revision = "grant_to_role"
down_revision = "schema"


def upgrade() -> None:
    op.execute("GRANT SELECT ON orders TO reporting")


def downgrade() -> None:
    safely.nothing_to_undo("the role may go on reading")
