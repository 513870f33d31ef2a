"""Overwrite values on the way back."""

import safely

# lock: no table
revision = "overwriting_downgrade"
down_revision = "schema"


def upgrade() -> None:
    safely.change_default("orders", "state", "open")


def downgrade() -> None:
    safely.backfill("orders", "state = 'new'", where="state = 'open'")  # <- lossy-downgrade
