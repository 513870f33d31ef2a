"""Read one row before the change."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade():
    connection = op.get_bind()
    row = connection.execute(sa.text("SELECT value FROM settings WHERE key = 'currency'")).fetchone()  # <- reads-database
    currency = row[0]  # <- on a scratch database: reads-database
    op.add_column("orders", sa.Column("currency", sa.Text(), server_default=currency))
    op.execute("UPDATE orders SET state = 'old'")  # <- backfill-at-once, two-subjects


def downgrade():
    op.drop_column("orders", "currency")  # <- lossy-downgrade
