"""Go on as another role, by set_config."""

from alembic import op

import safely

# rehearse: no, role was set to app_owner
# lock: no table
revision = "role_by_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT set_config('role', 'app_owner', false)")  # <- session-role


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
