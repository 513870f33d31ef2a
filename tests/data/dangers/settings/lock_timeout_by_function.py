"""Change lock_timeout by set_config."""

from alembic import op

import safely

# rehearse: no, lock_timeout was set to 3600000
# lock: no table
revision = "lock_timeout_by_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT set_config('lock_timeout', '1h', false)")  # <- lock-timeout


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
