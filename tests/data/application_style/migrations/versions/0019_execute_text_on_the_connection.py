"""Change rows on the connection itself."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade():
    connection = op.get_bind()
    connection.execute(sa.text("UPDATE users SET status = 'active' WHERE status IS NULL"))  # <- backfill-at-once
    connection.execute(  # <- delete-at-once, two-subjects
        sa.text("DELETE FROM orders WHERE state = :state"),
        {"state": "void"},
    )
    connection.exec_driver_sql("ALTER TABLE users ALTER COLUMN status SET NOT NULL")  # <- not-null-at-once


def downgrade():
    op.get_bind().execute(sa.text("ALTER TABLE users ALTER COLUMN status DROP NOT NULL"))  # <- raw-op
