"""Drop a table and create it anew, in SQL."""

from alembic import op

import safely

# rehearse: cannot run, cannot insert multiple commands into a prepared statement
# lock: ACCESS EXCLUSIVE on visits
revision = "drop_and_create_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- drop-and-create
        "DROP TABLE visits; CREATE TABLE visits (id bigint PRIMARY KEY, page text)"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
