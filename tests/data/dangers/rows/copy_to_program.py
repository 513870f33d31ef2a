"""Send rows to a program that the server runs."""

from alembic import op

import safely

# rehearse: yes, the program keeps nothing, and the role of the copy may run programs
# lock: no table
revision = "copy_to_program"
down_revision = "schema"


def upgrade() -> None:
    op.execute("COPY customers TO PROGRAM 'cat > /dev/null'")  # <- server-program


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
