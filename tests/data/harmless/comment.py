"""Comment on a column."""

import safely

revision = "comment"
down_revision = "schema"


def upgrade() -> None:
    safely.change_comment("orders", "note", "for the parcel service")


def downgrade() -> None:
    safely.change_comment("orders", "note", None)
