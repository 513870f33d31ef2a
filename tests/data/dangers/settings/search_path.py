"""Look for tables in other schemas."""

from alembic import op

import safely

# rehearse: no, search_path was set to archive, public
# lock: no table
revision = "search_path"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET search_path TO archive, public")  # <- search-path


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
