"""Go on as another role."""

from alembic import op

import safely

# rehearse: no, role was set to app_owner
# lock: no table
revision = "set_role"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET ROLE app_owner")  # <- session-role


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
