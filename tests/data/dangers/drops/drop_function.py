"""Drop a function that clients call."""

from alembic import op

import safely

# rehearse: no, function normalize_email(text) was dropped, not set aside
# lock: no table
revision = "drop_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP FUNCTION normalize_email(text)")  # <- drop-object


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
