"""Run asynchronous code."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


async def fill(connection):
    result = await connection.execute(sa.text("SELECT count(*) FROM users"))
    if result.scalar() == 0:
        await connection.execute(sa.text("UPDATE users SET status = 'new'"))  # <- backfill-at-once
    await connection.execute(sa.text("DELETE FROM items"))  # <- delete-at-once, two-subjects


def upgrade():
    op.run_async(fill)  # <- reads-database
    op.add_column("items", sa.Column("weight", sa.Integer()))


def downgrade():
    op.drop_column("items", "weight")  # <- lossy-downgrade
