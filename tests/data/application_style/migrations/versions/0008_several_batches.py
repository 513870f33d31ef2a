"""Change two tables in two batches."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade():
    with op.batch_alter_table("orders") as batch_op:
        batch_op.add_column(sa.Column("note", sa.Text()))
        batch_op.create_unique_constraint("uq_orders_note", ["note"])  # <- unique-at-once

    with op.batch_alter_table("items") as batch_op:
        batch_op.add_column(sa.Column("sku", sa.Text()))  # <- two-tables
        batch_op.create_check_constraint("ck_items_sku", "sku <> ''")  # <- check-at-once


def downgrade():
    with op.batch_alter_table("items") as batch_op:
        batch_op.drop_column("sku")  # <- lossy-downgrade
    with op.batch_alter_table("orders") as batch_op:
        batch_op.drop_column("note")  # <- lossy-downgrade
