"""Fill values in, in batches."""

import safely

revision = "backfill"
down_revision = "schema"


def upgrade() -> None:
    safely.backfill("customers", "phone = ''", where="phone IS NULL")


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
