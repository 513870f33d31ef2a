"""Drop a role with which clients may log in."""

from alembic import op

import safely

# rehearse: no, role "reporting" cannot be dropped
# lock: no table
revision = "drop_role"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP ROLE IF EXISTS reporting")  # <- alter-role


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
