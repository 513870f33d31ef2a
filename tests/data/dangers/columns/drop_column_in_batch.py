"""Drop a column, in a batch."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot drop column note of table orders
# lock: ACCESS EXCLUSIVE on orders
revision = "drop_column_in_batch"
down_revision = "schema"


def upgrade() -> None:
    with op.batch_alter_table("orders") as batch_op:
        batch_op.drop_column("note")  # <- plain-drop


def downgrade() -> None:
    safely.add_column("orders", sa.Column("note", sa.Text()))
