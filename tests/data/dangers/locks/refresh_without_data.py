"""Empty a materialized view, so that reading it fails."""

from alembic import op

import safely

# rehearse: no, contents of sales_by_day: was "populated", is now "not populated"
# lock: ACCESS EXCLUSIVE on sales_by_day
revision = "refresh_without_data"
down_revision = "schema"


def upgrade() -> None:
    op.execute("REFRESH MATERIALIZED VIEW sales_by_day WITH NO DATA")  # <- refresh


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
