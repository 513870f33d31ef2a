"""Drop a materialized view that clients read."""

from alembic import op

import safely

# rehearse: no, materialized view sales_by_day was dropped, not set aside
# lock: ACCESS EXCLUSIVE on sales_by_day
revision = "drop_materialized_view"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP MATERIALIZED VIEW sales_by_day")  # <- drop-object


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
