"""Suppress a finding without a reason."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot drop column phone of table customers
# lock: no table
revision = "no_reason"
down_revision = "schema"


def upgrade() -> None:
    # lint: plain-drop  # noqa: ERA001  # <- no-reason
    op.drop_column("customers", "phone")


def downgrade() -> None:
    safely.add_column("customers", sa.Column("phone", sa.Text()))
