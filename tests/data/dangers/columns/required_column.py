"""Add a column that older builds would have to fill in."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, column "region" of relation "audit_log" contains null values
# lock: ACCESS EXCLUSIVE on audit_log
revision = "required_column"
down_revision = "schema"


def upgrade() -> None:
    op.add_column("audit_log", sa.Column("region", sa.Text(), nullable=False))  # <- required-column


def downgrade() -> None:
    safely.drop_column("audit_log", "region")
