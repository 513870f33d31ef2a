"""Widen an integer by a second column."""

import sqlalchemy as sa

import safely

revision = "integer_to_bigint"
down_revision = "schema"


def upgrade() -> None:
    safely.change_type("customers", "age", sa.BigInteger())


def downgrade() -> None:
    safely.change_type("customers", "age", sa.Integer())
