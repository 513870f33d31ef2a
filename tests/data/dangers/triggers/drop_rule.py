"""Drop a rule of a table in use."""

from alembic import op

import safely

# rehearse: no, rule no_update on visits was dropped, not set aside
# lock: ACCESS EXCLUSIVE on visits
revision = "drop_rule"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP RULE no_update ON visits")  # <- rewrite-rule


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
