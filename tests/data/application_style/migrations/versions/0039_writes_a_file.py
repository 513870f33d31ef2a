"""Export rows before they are dropped."""

import csv
import pathlib

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade():
    with pathlib.Path("/tmp/exported_channels.csv").open("w") as file:  # <- acts-outside
        writer = csv.writer(file)
        writer.writerows(op.get_bind().execute(sa.text("SELECT id, channel FROM orders")))
    op.drop_column("orders", "channel")  # <- plain-drop


def downgrade():
    op.add_column("orders", sa.Column("channel", sa.Text()))  # <- raw-op
