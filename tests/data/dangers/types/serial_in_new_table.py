"""Number the rows of a new table with a serial."""

import sqlalchemy as sa

import safely

# rehearse: yes, the key works as an identity does; the advice is about later
# lock: no table
revision = "serial_in_new_table"
down_revision = "schema"


def upgrade() -> None:
    safely.create_table(  # <- prefer-identity
        "coupons", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("code", sa.Text())
    )


def downgrade() -> None:
    safely.drop_table("coupons")
