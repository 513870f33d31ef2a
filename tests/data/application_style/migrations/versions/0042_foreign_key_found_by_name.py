"""Drop a constraint whose name only the database knows."""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"


def upgrade():
    inspector = sa.inspect(op.get_bind())
    for constraint in inspector.get_unique_constraints("orders"):  # <- reads-database
        if constraint["column_names"] == ["note"]:
            op.drop_constraint(constraint["name"], "orders", type_="unique")  # <- drop-constraint
    primary = inspector.get_pk_constraint("items")["name"]
    with op.batch_alter_table("items") as batch_op:
        batch_op.drop_constraint(primary, type_="primary")  # <- drop-constraint, two-tables
        batch_op.create_primary_key("pk_items", ["id"])  # <- primary-key-at-once


def downgrade():  # <- empty-downgrade
    pass
