"""Change a default."""

import safely

revision = "change_default"
down_revision = "schema"


def upgrade() -> None:
    safely.change_default("orders", "state", "draft")


def downgrade() -> None:
    safely.change_default("orders", "state", "new")
