"""Create a table whose rows another one shows."""

from alembic import op

import safely

# rehearse: no, parents of audit_log_2027: was added
# lock: SHARE UPDATE EXCLUSIVE on audit_log
revision = "inheriting_table"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE TABLE audit_log_2027 () INHERITS (audit_log)")  # <- inherit


def downgrade() -> None:
    safely.drop_table("audit_log_2027")
