"""End the program where a table is missing."""

import sys

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0047"


def upgrade():
    if not sa.inspect(op.get_bind()).has_table("warehouses"):  # <- reads-database
        sys.exit("create the table warehouses first")
    op.drop_table("warehouses")  # <- plain-drop


def downgrade():
    sys.exit(1)  # <- unrendered
