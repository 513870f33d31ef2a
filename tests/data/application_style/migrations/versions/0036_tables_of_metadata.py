"""Create a table on the connection."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"


metadata = sa.MetaData()
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("body", sa.Text),
)


def upgrade():
    metadata.create_all(bind=op.get_bind())  # <- raw-op
    op.create_index("ix_notes_body", "notes", ["body"])  # <- raw-op


def downgrade():
    notes.drop(op.get_bind())  # <- lossy-downgrade
