"""Add a time to each table."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade():
    for table in sorted(sa.inspect(op.get_bind()).get_table_names()):  # <- reads-database
        if table == "alembic_version":
            continue
        op.add_column(table, sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()")))  # <- volatile-default  # <- on a scratch database: two-tables


def downgrade():
    for table in sorted(sa.inspect(op.get_bind()).get_table_names()):  # <- reads-database
        op.drop_column(table, "seen_at")  # <- lossy-downgrade
