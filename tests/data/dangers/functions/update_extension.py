"""Update an extension, which runs its scripts."""

from alembic import op

import safely

# rehearse: yes, the copy has the newest version of the extension
# lock: no table
revision = "update_extension"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER EXTENSION citext UPDATE")  # <- extension


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
