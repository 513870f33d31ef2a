"""Replace a function that every build calls."""

from alembic import op

import safely

# rehearse: no, function normalize_email(text): was "CREATE OR REPLACE FUNCTION …, is now
# lock: no table
revision = "replace_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- replace-function
        "CREATE OR REPLACE FUNCTION normalize_email(text) RETURNS text LANGUAGE sql AS 'SELECT "
        "lower($1)'"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
