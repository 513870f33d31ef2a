"""Load a file of the server's."""

from alembic import op

import safely

# rehearse: yes, the file is empty, and the role of the copy may read files
# lock: ROW EXCLUSIVE on products
revision = "copy_from_file"
down_revision = "schema"


def upgrade() -> None:
    op.execute("COPY products (id, name) FROM '/dev/null'")  # <- server-file


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
