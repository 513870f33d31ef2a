"""Create a table and its index."""

import sqlalchemy as sa

import safely

revision = "create_table_with_index"
down_revision = "schema"


def upgrade() -> None:
    safely.create_table(
        "labels",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
    )
    safely.create_index("ix_labels_name", "labels", ["name"])


def downgrade() -> None:
    safely.drop_index("ix_labels_name", "labels")
    safely.drop_table("labels")
