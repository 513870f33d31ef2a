"""Rewrite the clients' statements by a rule."""

from alembic import op

# rehearse: no, rule keep on audit_log: was added
# lock: ACCESS EXCLUSIVE on audit_log
revision = "create_rule"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE RULE keep AS ON DELETE TO audit_log DO INSTEAD NOTHING")  # <- rewrite-rule


def downgrade() -> None:
    op.execute("DROP RULE keep ON audit_log")
