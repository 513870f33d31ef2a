"""Prepare a DELETE and execute it."""

from alembic import op

import safely

# rehearse: no, rows of audit_log changed at once
# lock: ROW EXCLUSIVE on audit_log
revision = "prepared_statement"
down_revision = "schema"


def upgrade() -> None:
    op.execute("PREPARE clean AS DELETE FROM audit_log")  # <- delete-at-once
    op.execute("EXECUTE clean")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
