"""Index a partitioned table, and with it every partition."""

from alembic import op

import safely

# rehearse: yes, the partitions are empty: no generated row suits them
# lock: SHARE on measurements
# not in the SQL: SHARE on measurements_2024, SHARE on measurements_2025
revision = "index_on_partitions"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE INDEX ix_measurements_sensor ON measurements (sensor)")  # <- plain-index


def downgrade() -> None:
    safely.drop_index("ix_measurements_sensor", "measurements")
