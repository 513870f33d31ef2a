"""Load a library into the server's process."""

from alembic import op

import safely

# rehearse: yes, the library is loaded already, and the role of the copy is a superuser
# lock: no table
revision = "load_library"
down_revision = "schema"


def upgrade() -> None:
    op.execute("LOAD 'plpgsql'")  # <- server-program


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
