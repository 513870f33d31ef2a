"""Run on PostgreSQL alone."""

import functools

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0049"


def only_on_postgresql(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if op.get_context().dialect.name == "postgresql":
            return function(*args, **kwargs)

    return wrapper


@only_on_postgresql
def upgrade():
    op.create_index("ix_items_sku_again", "items", ["sku"])  # <- plain-index


@only_on_postgresql
def downgrade():
    op.add_column("items", sa.Column("gone", sa.Text()))  # <- raw-op
