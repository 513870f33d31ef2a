"""Attach a table, which looks at every row of it."""

from alembic import op

# rehearse: no, partition constraint of relation "measurements_2026" is violated by some row
# lock: ACCESS EXCLUSIVE on measurements_2026, SHARE UPDATE EXCLUSIVE on measurements
revision = "attach_partition"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- attach-partition
        "ALTER TABLE measurements ATTACH PARTITION measurements_2026 FOR VALUES FROM "
        "('2026-01-01') TO ('2027-01-01')"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE measurements DETACH PARTITION measurements_2026")
