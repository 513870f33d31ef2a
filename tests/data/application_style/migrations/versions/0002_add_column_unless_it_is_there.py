"""Add a column unless it is there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    bind = op.get_bind()
    inspector = sa.inspect(bind)
    columns = [c["name"] for c in inspector.get_columns("users")]  # <- reads-database
    if "nickname" not in columns:
        op.add_column("users", sa.Column("nickname", sa.Text()))
    if "age" not in columns:
        op.add_column("users", sa.Column("age", sa.Integer(), nullable=False))  # <- required-column, two-subjects


def downgrade():
    op.drop_column("users", "nickname")  # <- lossy-downgrade
