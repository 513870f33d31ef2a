"""Insert rows, in Alembic."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: cannot run, duplicate key value violates unique constraint "products_pkey"
revision = "bulk_insert"
down_revision = "schema"


def upgrade() -> None:
    products = sa.table("products", sa.column("id", sa.BigInteger()), sa.column("name", sa.Text()))
    op.bulk_insert(products, [{"id": 10, "name": "Pen"}, {"id": 11, "name": "Ink"}])


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
