"""Let no later statement write."""

from alembic import op

import safely

# rehearse: no, default_transaction_read_only was set to on
# lock: no table
revision = "read_only"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET default_transaction_read_only = on")  # <- session-setting


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
