"""Drop a column and add it anew, without its values."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot drop column phone of table customers
# lock: ACCESS EXCLUSIVE on customers
revision = "drop_and_add_column"
down_revision = "schema"


def upgrade() -> None:
    op.drop_column("customers", "phone")  # <- drop-and-create
    op.add_column("customers", sa.Column("phone", sa.BigInteger()))


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
