"""Number the rows of a new table from a thousand."""

import sqlalchemy as sa
from alembic import op

import safely

revision = "setval_of_new_table"
down_revision = "schema"


def upgrade() -> None:
    safely.create_table(
        "invoices", sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True)
    )
    op.execute("SELECT setval(pg_get_serial_sequence('invoices', 'id'), 1000)")


def downgrade() -> None:
    safely.drop_table("invoices")
