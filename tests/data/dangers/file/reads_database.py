"""Look at the database before changing it."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: yes, the copy lacks the column, so the body adds it as it should
# lock: no table
revision = "reads_database"
down_revision = "schema"


def upgrade() -> None:
    columns = sa.inspect(op.get_bind()).get_columns("customers")  # <- reads-database
    if "nickname" not in {column["name"] for column in columns}:
        safely.add_column("customers", sa.Column("nickname", sa.Text()))


def downgrade() -> None:
    safely.drop_column("customers", "nickname")
