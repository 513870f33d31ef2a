"""Rename a column, which every older build keeps."""

import safely

revision = "rename_column"
down_revision = "schema"


def upgrade() -> None:
    safely.rename_column("customers", "name", "full_name")


def downgrade() -> None:
    safely.rename_column("customers", "full_name", "name")
