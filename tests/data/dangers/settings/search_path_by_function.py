"""Change search_path by set_config."""

from alembic import op

import safely

# rehearse: no, search_path was set to nothing
# lock: no table
revision = "search_path_by_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SELECT pg_catalog.set_config('search_path', '', false)")  # <- search-path


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
