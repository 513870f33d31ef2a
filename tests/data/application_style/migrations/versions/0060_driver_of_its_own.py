"""Connect by a driver."""

import psycopg
from alembic import op

revision = "0060"
down_revision = "0059"


def upgrade():
    with psycopg.connect("host=warehouse.example.org dbname=warehouse") as connection:  # <- acts-outside
        connection.execute("DROP TABLE copies")
    op.execute("UPDATE orders SET channel = ''")  # <- backfill-at-once, two-subjects


def downgrade():
    op.execute("UPDATE orders SET channel = NULL WHERE channel = ''")  # <- backfill-at-once, lossy-downgrade
