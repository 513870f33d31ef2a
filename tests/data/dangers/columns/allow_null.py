"""Allow NULL, which older builds can't read."""

import sqlalchemy as sa
from alembic import op

import safely

# lock: ACCESS EXCLUSIVE on customers
revision = "allow_null"
down_revision = "schema"


def upgrade() -> None:
    op.alter_column("customers", "name", existing_type=sa.String(100), nullable=True)  # <- raw-op


def downgrade() -> None:
    safely.require_column("customers", "name", fill="")
