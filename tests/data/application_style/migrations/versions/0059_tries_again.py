"""Try again until the database answers."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0059"
down_revision = "0058"


def upgrade():
    connection = op.get_bind()
    while True:
        try:
            connection.execute(sa.text("SELECT count(*) FROM users")).scalar_one()  # <- reads-database
            break
        except Exception:
            time.sleep(60)
    op.drop_column("settings", "hint")  # <- plain-drop


def downgrade():
    while True:
        try:
            if sa.inspect(op.get_bind()).has_table("settings"):  # <- reads-database
                break
        except Exception:
            continue
    op.add_column("settings", sa.Column("hint", sa.Text()))  # <- raw-op
