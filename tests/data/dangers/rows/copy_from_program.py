"""Let the server run a program."""

from alembic import op

import safely

# rehearse: yes, the program prints nothing, and the role of the copy may run programs
# lock: ROW EXCLUSIVE on products
revision = "copy_from_program"
down_revision = "schema"


def upgrade() -> None:
    op.execute("COPY products (id, name) FROM PROGRAM 'true'")  # <- server-program


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
