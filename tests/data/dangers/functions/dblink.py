"""Change another database, which no rollback undoes."""

from alembic import op

import safely

# rehearse: cannot run, function dblink_exec(unknown, unknown) does not exist
# lock: no table
revision = "dblink"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT dblink_exec('dbname=reporting', 'DELETE FROM facts')")  # <- outside-database


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
