"""Drop a table that only old installations have."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade():
    inspector = sa.inspect(op.get_bind())
    if "legacy_sessions" in inspector.get_table_names():  # <- reads-database
        op.drop_table("legacy_sessions")  # <- plain-drop


def downgrade():  # <- empty-downgrade
    pass
