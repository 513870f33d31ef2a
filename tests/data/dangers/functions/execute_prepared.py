"""Execute a statement that was prepared elsewhere."""

from alembic import op

import safely

# rehearse: cannot run, the address leads through a pooler
# lock: no table
revision = "execute_prepared"
down_revision = "schema"


def upgrade() -> None:
    op.execute("EXECUTE nightly_cleanup")  # <- unseen


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
