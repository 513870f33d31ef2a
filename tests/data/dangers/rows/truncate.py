"""Empty a table."""

from alembic import op

import safely

# rehearse: no, all of audit_log was written anew
# lock: ACCESS EXCLUSIVE on audit_log
revision = "truncate"
down_revision = "schema"


def upgrade() -> None:
    op.execute("TRUNCATE audit_log")  # <- plain-drop


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
