"""Index part of the rows."""

import sqlalchemy as sa

import safely

revision = "create_partial_index"
down_revision = "schema"


def upgrade() -> None:
    safely.create_index(
        "ix_orders_open", "orders", ["placed_at"], postgresql_where=sa.text("state = 'new'")
    )


def downgrade() -> None:
    safely.drop_index("ix_orders_open", "orders")
