"""Drop a type that older builds name."""

from alembic import op

import safely

# rehearse: no, type unused_status was dropped, not set aside
# lock: no table
revision = "drop_enum"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP TYPE IF EXISTS unused_status")  # <- drop-object


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
