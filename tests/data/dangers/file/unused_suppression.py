"""Argue with a finding that isn't there."""

import sqlalchemy as sa

import safely

# rehearse: yes, the comment is wrong, not what the body does
# lock: no table
revision = "unused_suppression"
down_revision = "schema"


def upgrade() -> None:
    # lint: plain-drop: the column is empty  # <- unused-suppression
    safely.add_column("customers", sa.Column("nickname", sa.Text()))


def downgrade() -> None:
    safely.drop_column("customers", "nickname")
