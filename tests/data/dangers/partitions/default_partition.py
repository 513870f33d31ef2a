"""Create a default partition, which takes what no other takes."""

from alembic import op

import safely

# rehearse: no, partition "measurements_rest" conflicts with existing default partition
# lock: ACCESS EXCLUSIVE on measurements
revision = "default_partition"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- create-partition
        "CREATE TABLE measurements_rest PARTITION OF measurements DEFAULT"
    )


def downgrade() -> None:
    safely.drop_table("measurements_rest")
