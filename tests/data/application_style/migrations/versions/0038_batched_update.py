"""Change rows in batches."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"


SIZE = 1000


def upgrade():
    connection = op.get_bind()
    while True:
        result = connection.execute(  # <- backfill-at-once
            sa.text(
                "UPDATE users SET status = 'x' WHERE id IN "
                "(SELECT id FROM users WHERE status = 'y' LIMIT :size)"
            ),
            {"size": SIZE},
        )
        if result.rowcount == 0:
            break
        time.sleep(0.1)
    op.execute("COMMENT ON COLUMN users.status IS 'state'")


def downgrade():  # <- empty-downgrade
    pass
