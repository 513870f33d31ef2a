"""Store a table by another method."""

from alembic import op

import safely

# rehearse: yes, the table has this access method already, so nothing is rewritten
# lock: ACCESS EXCLUSIVE on audit_log
revision = "set_access_method"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE audit_log SET ACCESS METHOD heap")  # <- rewrite


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
