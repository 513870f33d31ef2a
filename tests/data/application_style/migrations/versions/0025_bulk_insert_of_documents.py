"""Write settings with a document."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0025"
down_revision = "0024"


def upgrade():
    settings = sa.table("settings", sa.column("key", sa.Text), sa.column("extra", JSONB))
    op.bulk_insert(settings, [{"key": "mail", "extra": {"from": "shop@example.org"}}])  # <- unrendered
    op.create_index("ix_settings_extra", "settings", ["extra"])  # <- plain-index


def downgrade():
    op.drop_index("ix_settings_extra", table_name="settings")  # <- plain-index-drop
    op.execute("DELETE FROM settings WHERE key = 'mail'")  # <- lossy-downgrade
