"""Lose values on the way back."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot drop column nickname of table customers
# lock: ACCESS EXCLUSIVE on customers
revision = "lossy_downgrade"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("nickname", sa.Text()))


def downgrade() -> None:
    op.drop_column("customers", "nickname")  # <- lossy-downgrade
