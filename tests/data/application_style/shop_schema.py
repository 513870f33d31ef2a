"""What the revisions of an application share, as applications write it."""

import sqlalchemy as sa
from alembic import op


def table_exists(name):
    return sa.inspect(op.get_bind()).has_table(name)


def column_exists(table, column):
    return column in {c["name"] for c in sa.inspect(op.get_bind()).get_columns(table)}


def add_column_if_missing(table, column):
    if not column_exists(table, column.name):
        op.add_column(table, column)


def add_audit_columns(table):
    op.add_column(table, sa.Column("created_by", sa.Text(), nullable=True))
    op.add_column(table, sa.Column("updated_by", sa.Text(), nullable=True))


def is_sqlite():
    return op.get_bind().dialect.name == "sqlite"


def create_index_at_leisure(name, table, columns):
    op.execute("COMMIT")
    op.create_index(name, table, columns, postgresql_concurrently=True)
