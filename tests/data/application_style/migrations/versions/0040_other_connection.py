"""Copy from another database."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade():
    other = sa.create_engine("postgresql+psycopg://reader@warehouse.example.org/warehouse")
    with other.connect() as connection:  # <- acts-outside
        rows = connection.execute(sa.text("SELECT id FROM users")).all()
    for row in rows:
        op.execute(f"UPDATE users SET plan = 'gold' WHERE id = {row.id}")  # <- backfill-at-once
    op.drop_column("users", "plan")  # <- plain-drop


def downgrade():
    op.add_column("users", sa.Column("plan", sa.Text()))  # <- raw-op
