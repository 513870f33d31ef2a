"""Leave a transaction behind that keeps its locks."""

from alembic import op

import safely

# rehearse: cannot run, prepared transactions are disabled
# lock: no table
revision = "prepare_transaction"
down_revision = "schema"


def upgrade() -> None:
    op.execute("PREPARE TRANSACTION 'later'")  # <- transaction-control


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
