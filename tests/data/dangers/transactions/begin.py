"""Begin a transaction in the transaction."""

from alembic import op

import safely

# rehearse: yes, PostgreSQL only warns, since a transaction is open
# lock: no table
revision = "begin"
down_revision = "schema"


def upgrade() -> None:
    op.execute("BEGIN")  # <- transaction-control


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
