"""Write many rows."""

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0060"


settings = sa.table("settings", sa.column("key", sa.Text))


def upgrade():
    op.bulk_insert(settings, [{"key": str(number)} for number in range(3000)])
    for number in range(3000):
        op.execute(f"DELETE FROM settings WHERE key = '{number}'")  # <- delete-at-once
    op.create_index("ix_settings_value", "settings", ["value"])  # <- plain-index


def downgrade():
    op.drop_index("ix_settings_value", "settings")  # <- plain-index-drop
