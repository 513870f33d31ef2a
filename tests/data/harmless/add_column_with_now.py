"""Add a column whose default is the time of the transaction."""

import sqlalchemy as sa

import safely

revision = "add_column_with_now"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column(
        "orders",
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
    )


def downgrade() -> None:
    safely.drop_column("orders", "seen_at")
