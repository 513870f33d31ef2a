"""Move a column to the front."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade():
    with op.batch_alter_table("items", recreate="always") as batch_op:  # <- batch-rewrite
        batch_op.add_column(sa.Column("title", sa.Text()))  # <- raw-op


def downgrade():
    with op.batch_alter_table("items", recreate="auto") as batch_op:
        batch_op.drop_column("title")  # <- lossy-downgrade
