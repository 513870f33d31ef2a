"""Copy the rows that a DELETE removes."""

from alembic import op

import safely

# rehearse: no, rows of audit_log changed at once
# lock: ROW EXCLUSIVE on audit_log
revision = "copy_deleted_rows"
down_revision = "schema"


def upgrade() -> None:
    op.execute("COPY (DELETE FROM audit_log RETURNING *) TO STDOUT")  # <- delete-at-once


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
