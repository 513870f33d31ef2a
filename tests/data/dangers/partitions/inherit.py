"""Let a table inherit from another."""

from alembic import op

# rehearse: no, parents of old_audit_log: was added
# lock: ACCESS EXCLUSIVE on old_audit_log, SHARE UPDATE EXCLUSIVE on audit_log
revision = "inherit"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE old_audit_log INHERIT audit_log")  # <- inherit


def downgrade() -> None:
    op.execute("ALTER TABLE old_audit_log NO INHERIT audit_log")
