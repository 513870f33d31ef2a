"""Read what PostgreSQL knows about a table."""

from alembic import op

import safely

revision = "select_functions"
down_revision = "schema"


def upgrade() -> None:
    op.execute(
        "SELECT pg_get_constraintdef(oid), array_length(conkey, 1) FROM pg_constraint "
        "WHERE has_table_privilege(conrelid, 'SELECT')"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it reads")
