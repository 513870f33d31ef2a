"""Add a column with a check."""

from alembic import op

import safely

# rehearse: no, rows of customers were read under a lock on
# lock: ACCESS EXCLUSIVE on customers
revision = "column_with_check"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- check-at-once
        "ALTER TABLE customers ADD COLUMN score integer CHECK (score > 0)"
    )


def downgrade() -> None:
    safely.drop_column("customers", "score")
