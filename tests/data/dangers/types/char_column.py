"""Pad every value with spaces."""

import sqlalchemy as sa

import safely

# rehearse: yes, the type keeps what is written; the advice is about later
# lock: ACCESS EXCLUSIVE on customers
revision = "char_column"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("country", sa.CHAR(2)))  # <- ban-char-field


def downgrade() -> None:
    safely.drop_column("customers", "country")
