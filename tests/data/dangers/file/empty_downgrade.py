"""Say nothing about the way back."""

import sqlalchemy as sa

import safely

# rehearse: no, after the downgrade: column customers.nickname: was added
# lock: no table
revision = "empty_downgrade"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("nickname", sa.Text()))


def downgrade() -> None:  # <- empty-downgrade
    pass
