"""Take a table out of the write-ahead log, and rewrite it."""

from alembic import op

# rehearse: no, rows of audit_log were read under a lock on
# lock: ACCESS EXCLUSIVE on audit_log
revision = "set_unlogged"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE audit_log SET UNLOGGED")  # <- rewrite


def downgrade() -> None:
    op.execute("ALTER TABLE audit_log SET LOGGED")
