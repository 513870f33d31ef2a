"""Change a table by the methods of a class."""

import sqlalchemy as sa
from alembic import op

revision = "0051"
down_revision = "0050"


class Change:
    table = "orders"

    def up(self):
        with op.batch_alter_table(self.table) as batch_op:
            batch_op.alter_column("channel", existing_type=sa.Text(), nullable=False)  # <- not-null-at-once

    def down(self):
        op.alter_column(self.table, "channel", nullable=True)  # <- raw-op


def upgrade():
    Change().up()


def downgrade():
    Change().down()
