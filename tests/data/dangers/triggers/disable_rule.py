"""Disable a rule of a table in use."""

from alembic import op

# rehearse: no, rule no_update on visits: was
# lock: ACCESS EXCLUSIVE on visits
revision = "disable_rule"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE visits DISABLE RULE no_update")  # <- rewrite-rule


def downgrade() -> None:
    op.execute("ALTER TABLE visits ENABLE RULE no_update")
