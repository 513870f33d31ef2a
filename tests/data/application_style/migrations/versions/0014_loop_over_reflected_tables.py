"""Limit the length of each e-mail address."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade():
    metadata = sa.MetaData()
    metadata.reflect(bind=op.get_bind())  # <- reads-database
    for table in metadata.sorted_tables:
        for column in table.columns:
            if column.name == "email":
                op.alter_column(table.name, column.name, type_=sa.String(400))  # <- type-change


def downgrade():
    op.alter_column("users", "email", type_=sa.String(100))  # <- type-change
