"""Allow NULL, which older builds can't read."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, after the downgrade: trigger fill_missing_3 on customers: was added
# lock: ACCESS EXCLUSIVE on customers
revision = "allow_null"
down_revision = "schema"


def upgrade() -> None:
    op.alter_column("customers", "name", existing_type=sa.String(100), nullable=True)  # <- raw-op


def downgrade() -> None:
    safely.require_column("customers", "name", fill="")
