"""Make a column NOT NULL."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, column "age" of relation "customers" contains null values
# lock: ACCESS EXCLUSIVE on customers
revision = "not_null_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.alter_column(  # <- not-null-at-once
        "customers", "age", existing_type=sa.Integer(), nullable=False
    )


def downgrade() -> None:
    safely.allow_null("customers", "age")
