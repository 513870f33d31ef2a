"""Try a change in a savepoint."""

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"


def upgrade():
    connection = op.get_bind()
    with connection.begin_nested():
        connection.execute(sa.text("ALTER TABLE settings ADD COLUMN kind text DEFAULT 'plain'"))  # <- raw-op
    if connection.execute(sa.text("SELECT 1 FROM settings WHERE kind IS NULL")).first():  # <- reads-database
        connection.execute(sa.text("UPDATE settings SET kind = 'plain'"))  # <- backfill-at-once


def downgrade():
    with op.get_bind().begin_nested():
        op.drop_column("settings", "kind")  # <- lossy-downgrade
