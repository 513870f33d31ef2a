"""Call functions that the body defines."""

import sqlalchemy as sa
from alembic import op

revision = "0062"
down_revision = "0061"


def _batch(table):
    return op.batch_alter_table(table, naming_convention={"uq": "uq_%(table_name)s"})


def upgrade():
    inspector = sa.inspect(op.get_bind())

    def unique_on(column):
        for constraint in inspector.get_unique_constraints("orders"):  # <- reads-database
            if constraint["column_names"] == [column]:
                return constraint["name"]

    def add_indexes():
        op.create_index("ix_orders_channel", "orders", ["channel"])  # <- plain-index
        if inspector.has_table("invoices"):
            op.create_index("ix_invoices_id", "invoices", ["id"])  # <- plain-index, two-tables

    name = unique_on("channel")
    with _batch("orders") as batch_op:
        if name:
            batch_op.drop_constraint(name, type_="unique")  # <- drop-constraint
        batch_op.create_unique_constraint("uq_orders_channel", ["channel"])  # <- unique-at-once
    add_indexes()


def downgrade():
    with _batch("orders") as batch_op:
        batch_op.drop_constraint("uq_orders_channel", type_="unique")  # <- drop-constraint
