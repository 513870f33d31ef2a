"""Copy from another database."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade():
    other = sa.create_engine("postgresql+psycopg://reader@warehouse.example.org/warehouse")
    with other.connect() as connection:
        rows = connection.execute(sa.text("SELECT id FROM users")).all()
    for row in rows:
        op.execute(f"UPDATE users SET plan = 'gold' WHERE id = {row.id}")
    op.drop_column("users", "plan")


def downgrade():
    op.add_column("users", sa.Column("plan", sa.Text()))
