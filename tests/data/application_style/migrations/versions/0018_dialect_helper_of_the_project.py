"""Use another type on SQLite."""

import sqlalchemy as sa
from alembic import op
from shop_schema import is_sqlite  # <- imports-application

revision = "0018"
down_revision = "0017"


def upgrade():
    if is_sqlite():
        op.execute("UPDATE settings SET value = NULL")
        op.add_column("settings", sa.Column("extra", sa.Text()))
    else:
        op.add_column("settings", sa.Column("extra", sa.dialects.postgresql.JSONB()))  # <- raw-op


def downgrade():
    op.drop_column("settings", "extra")  # <- lossy-downgrade
