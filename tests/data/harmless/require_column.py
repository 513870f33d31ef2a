"""Fill a column in, then make it NOT NULL."""

import safely

revision = "require_column"
down_revision = "schema"


def upgrade() -> None:
    safely.require_column("orders", "note", fill="")


def downgrade() -> None:
    safely.allow_null("orders", "note")
    safely.nothing_to_undo("the notes that were filled in stay")
