"""Change the step of a sequence."""

from alembic import op

import safely

# rehearse: no, sequence order_number: was …, is now "bigint START 1 INCREMENT 10
# lock: SHARE ROW EXCLUSIVE on order_number
revision = "alter_sequence"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER SEQUENCE order_number INCREMENT BY 10 CACHE 100")  # <- alter-sequence


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
