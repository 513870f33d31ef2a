"""Add columns by helpers."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def _column_exists(table, column):
    columns = sa.inspect(op.get_bind()).get_columns(table)  # <- reads-database
    return any(c["name"] == column for c in columns)


def _add(table, column):
    if not _column_exists(table, column.name):
        op.add_column(table, column)  # <- required-column


def _drop(table, name):
    if _column_exists(table, name):
        op.drop_column(table, name)  # <- lossy-downgrade


def upgrade():
    _add("users", sa.Column("plan", sa.Text()))
    _add("users", sa.Column("trial_ends", sa.Date(), nullable=False))


def downgrade():
    _drop("users", "trial_ends")
    _drop("users", "plan")
