"""Rename if the old name is there."""

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"


def upgrade():
    conn = op.get_bind()
    columns = {c["name"]: c for c in sa.inspect(conn).get_columns("items")}  # <- reads-database
    if "sku" in columns:
        op.alter_column("items", "sku", new_column_name="article")  # <- rename
    if sa.inspect(conn).has_table("article_codes"):
        op.rename_table("article_codes", "codes")  # <- rename, two-tables


def downgrade():
    op.alter_column("items", "article", new_column_name="sku")  # <- raw-op
