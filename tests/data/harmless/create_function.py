"""Create a function."""

from alembic import op

import safely

# rehearse: no, function "shout" already exists
revision = "create_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute(
        "CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'"
    )


def downgrade() -> None:
    safely.nothing_to_undo("nobody calls the function")
