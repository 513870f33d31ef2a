"""Choose the type by the dialect."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"


def upgrade():
    match op.get_bind().dialect.name:
        case "postgresql":
            op.add_column("items", sa.Column("price", sa.Numeric(), server_default=sa.text("random()")))  # <- volatile-default
        case "sqlite":
            op.add_column("items", sa.Column("price", sa.Float(), nullable=False))
        case other:
            raise RuntimeError(other)


def downgrade():
    op.drop_column("items", "price")  # <- lossy-downgrade
