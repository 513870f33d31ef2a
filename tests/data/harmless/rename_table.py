"""Rename a table, which every older build keeps."""

import safely

revision = "rename_table"
down_revision = "schema"


def upgrade() -> None:
    safely.rename_table("payments", "receipts")


def downgrade() -> None:
    safely.rename_table("receipts", "payments")
