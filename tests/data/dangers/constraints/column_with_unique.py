"""Add a column that is unique."""

from alembic import op

import safely

# rehearse: no, rows of customers were read under a lock on
# lock: ACCESS EXCLUSIVE on customers
revision = "column_with_unique"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE customers ADD COLUMN tax_number text UNIQUE")  # <- unique-at-once


def downgrade() -> None:
    safely.drop_column("customers", "tax_number")
