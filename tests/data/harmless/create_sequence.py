"""Create a sequence."""

from alembic import op

import safely

# rehearse: no, relation "invoice_number" already exists
revision = "create_sequence"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE SEQUENCE invoice_number")


def downgrade() -> None:
    safely.nothing_to_undo("nobody uses the sequence")
