"""Delete rows in a common table expression."""

from alembic import op

import safely

# rehearse: no, rows of audit_log changed at once
# lock: ROW EXCLUSIVE on audit_log, ROW EXCLUSIVE on old_audit_log
revision = "delete_in_cte"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- delete-at-once
        "WITH gone AS (DELETE FROM audit_log RETURNING *) INSERT INTO old_audit_log SELECT * "
        "FROM gone"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
