"""Do something that only the server sees."""

from alembic import op

import safely

# rehearse: no, cannot drop table visits
# lock: no table
# not in the SQL: ACCESS EXCLUSIVE on visits
revision = "do_block"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DO $$ BEGIN EXECUTE 'DROP TABLE ' || 'visits'; END $$")  # <- unseen


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
