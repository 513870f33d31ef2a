"""Give all objects of a role to another."""

from alembic import op

import safely

# rehearse: no, owner of archive.letters: was "reporting", is now "app_owner"
# lock: no table
revision = "reassign_owned"
down_revision = "schema"


def upgrade() -> None:
    op.execute("REASSIGN OWNED BY reporting TO app_owner")  # <- owner


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
