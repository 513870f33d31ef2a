"""Use another connection to the same database."""

import sqlalchemy as sa
from alembic import op

revision = "0056"
down_revision = "0055"


def upgrade():
    engine = op.get_bind().engine
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE settings DROP COLUMN kind"))  # <- plain-drop
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1")).scalar_one()  # <- reads-database
    op.drop_column("settings", "unit")  # <- plain-drop, two-subjects


def downgrade():
    op.add_column("settings", sa.Column("unit", sa.Text()))  # <- raw-op
