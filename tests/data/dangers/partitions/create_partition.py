"""Create a partition of a table in use."""

from alembic import op

import safely

# rehearse: no, partition "measurements_2027" would overlap partition "measurements_2027"
# lock: ACCESS EXCLUSIVE on measurements
revision = "create_partition"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- create-partition
        "CREATE TABLE measurements_2027 PARTITION OF measurements FOR VALUES FROM "
        "('2027-01-01') TO ('2028-01-01')"
    )


def downgrade() -> None:
    safely.drop_table("measurements_2027")
