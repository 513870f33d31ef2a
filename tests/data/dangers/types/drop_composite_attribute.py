"""Drop an attribute of a composite type, and its values."""

from alembic import op

import safely

# rehearse: no, type address: was "(street text, city text)", is now
# lock: ACCESS EXCLUSIVE on address
revision = "drop_composite_attribute"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TYPE address DROP ATTRIBUTE city CASCADE")  # <- alter-type


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
