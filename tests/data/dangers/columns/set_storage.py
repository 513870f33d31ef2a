"""Change how a column is stored."""

from alembic import op

import safely

# rehearse: yes, the lock is held for an instant
# lock: ACCESS EXCLUSIVE on customers
revision = "set_storage"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- brief-lock
        "ALTER TABLE customers ALTER COLUMN preferences SET STORAGE EXTERNAL"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
