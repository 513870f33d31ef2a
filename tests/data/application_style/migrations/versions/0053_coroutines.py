"""Change a table in an async function, which nobody awaits."""

import sqlalchemy as sa
from alembic import op

revision = "0053"
down_revision = "0052"


async def upgrade():  # <- unrendered
    op.drop_column("settings", "hint")  # <- plain-drop


async def downgrade():  # <- unrendered
    op.add_column("settings", sa.Column("hint", sa.Text()))  # <- raw-op
