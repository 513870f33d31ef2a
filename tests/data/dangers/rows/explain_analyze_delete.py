"""Explain a DELETE by executing it."""

from alembic import op

import safely

# rehearse: no, rows of audit_log changed at once
# lock: ROW EXCLUSIVE on audit_log
revision = "explain_analyze_delete"
down_revision = "schema"


def upgrade() -> None:
    op.execute("EXPLAIN ANALYZE DELETE FROM audit_log WHERE at < '2020-01-01'")  # <- delete-at-once


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
