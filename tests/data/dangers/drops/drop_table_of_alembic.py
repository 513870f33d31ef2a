"""Drop a table in use."""

from alembic import op

import safely

# rehearse: no, cannot drop table payments
# lock: ACCESS EXCLUSIVE on payments
revision = "drop_table_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.drop_table("payments")  # <- plain-drop


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
