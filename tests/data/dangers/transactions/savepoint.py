"""Set a savepoint."""

from alembic import op

import safely

# rehearse: yes, the savepoint ends with the transaction
# lock: no table
revision = "savepoint"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SAVEPOINT before")  # <- transaction-control


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
