"""Drop all objects of a role."""

from alembic import op

import safely

# rehearse: no, table archive.letters was dropped, not set aside
# lock: no table
revision = "drop_owned"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP OWNED BY reporting CASCADE")  # <- drop-owned


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
