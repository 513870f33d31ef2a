"""Detach a partition, whose rows disappear from the table."""

from alembic import op

import safely

# rehearse: no, table measurements_2024: was "table FOR VALUES …, is now "table"
# lock: ACCESS EXCLUSIVE on measurements, ACCESS EXCLUSIVE on measurements_2024
revision = "detach_partition"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE measurements DETACH PARTITION measurements_2024")  # <- detach-partition


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
