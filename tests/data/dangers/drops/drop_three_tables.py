"""Drop several tables in one statement."""

from alembic import op

import safely

# rehearse: no, cannot drop desired object(s)
# lock: ACCESS EXCLUSIVE on payments, ACCESS EXCLUSIVE on audit_log, ACCESS EXCLUSIVE on visits
revision = "drop_three_tables"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP TABLE payments, audit_log, visits")  # <- two-tables


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
