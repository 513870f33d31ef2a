"""Refuse the way back."""

import sqlalchemy as sa

import safely

# rehearse: no, downgrade: on the scratch database: NotImplementedError
# lock: no table
revision = "raising_downgrade"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("nickname", sa.Text()))


def downgrade() -> None:  # <- empty-downgrade
    raise NotImplementedError
