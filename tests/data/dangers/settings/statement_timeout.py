"""Cut off statements."""

from alembic import op

import safely

# rehearse: no, statement_timeout was set to 1000: SET LOCAL statement_timeout = '1s'
# lock: no table
revision = "statement_timeout"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = '1s'")  # <- statement-timeout


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
