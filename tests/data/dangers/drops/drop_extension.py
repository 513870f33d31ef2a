"""Drop an extension, and the columns and indexes that need it."""

from alembic import op

import safely

# rehearse: no, extension citext: is gone
# lock: no table
revision = "drop_extension"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP EXTENSION IF EXISTS citext CASCADE")  # <- cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
