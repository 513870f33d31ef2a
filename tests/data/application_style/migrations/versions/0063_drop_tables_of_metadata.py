"""Drop tables on the connection, where they are there."""

import sqlalchemy as sa
from alembic import op

revision = "0063"
down_revision = "0062"


metadata = sa.MetaData()
settings = sa.Table("settings", metadata, sa.Column("key", sa.Text(), primary_key=True))


def upgrade():
    metadata.drop_all(bind=op.get_bind())  # <- plain-drop


def downgrade():
    metadata.create_all(bind=op.get_bind())  # <- raw-op
