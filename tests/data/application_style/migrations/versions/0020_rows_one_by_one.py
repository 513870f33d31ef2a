"""Copy values row by row."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


users = sa.table("users", sa.column("id"), sa.column("name"), sa.column("nickname"))


def upgrade():
    connection = op.get_bind()
    for row in connection.execute(sa.select(users.c.id, users.c.name)):  # <- reads-database
        connection.execute(  # <- backfill-at-once
            users.update().where(users.c.id == row.id).values(nickname=row.name.lower())
        )
    op.drop_column("users", "age")  # <- plain-drop


def downgrade():
    op.add_column("users", sa.Column("age", sa.Integer()))  # <- raw-op
