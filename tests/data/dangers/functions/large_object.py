"""Write a file of the server's."""

from alembic import op

import safely

# rehearse: cannot run, large object 1 does not exist
# lock: no table
revision = "large_object"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT lo_export(1, '/tmp/export')")  # <- server-file


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
