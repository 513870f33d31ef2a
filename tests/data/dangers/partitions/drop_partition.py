"""Drop a partition with its rows."""

from alembic import op

import safely

# rehearse: no, table measurements_2024 was dropped, not set aside
# lock: ACCESS EXCLUSIVE on measurements_2024
# not in the SQL: ACCESS EXCLUSIVE on measurements
revision = "drop_partition"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP TABLE measurements_2024")  # <- plain-drop


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
