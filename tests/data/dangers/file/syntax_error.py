"""Write SQL that PostgreSQL can't read."""

from alembic import op

import safely

# rehearse: no, syntax error at or near "TABEL"
# lock: no table
revision = "syntax_error"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABEL customers ADD nickname text")  # <- syntax-error


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
