"""Drop a column that older builds read."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot drop column phone of table customers
# lock: ACCESS EXCLUSIVE on customers
revision = "drop_column_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.drop_column("customers", "phone")  # <- plain-drop


def downgrade() -> None:
    safely.add_column("customers", sa.Column("phone", sa.Text()))
