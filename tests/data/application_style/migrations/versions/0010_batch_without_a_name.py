"""Open a batch and change nothing in it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade():
    with op.batch_alter_table("users"):
        op.add_column("users", sa.Column("locale", sa.Text()))  # <- raw-op


def downgrade():
    with op.batch_alter_table("users"):
        op.drop_column("users", "locale")  # <- lossy-downgrade
