"""Write the settings."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade():
    settings = sa.table("settings", sa.column("key", sa.Text), sa.column("value", sa.Text))
    op.bulk_insert(settings, [{"key": "currency", "value": "EUR"}, {"key": "locale", "value": "de"}])


def downgrade():
    op.execute("DELETE FROM settings WHERE key IN ('currency', 'locale')")  # <- lossy-downgrade
