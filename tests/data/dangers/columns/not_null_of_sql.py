"""Make a column NOT NULL, in SQL."""

from alembic import op

import safely

# rehearse: no, column "age" of relation "customers" contains null values
# lock: ACCESS EXCLUSIVE on customers
revision = "not_null_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE customers ALTER COLUMN age SET NOT NULL")  # <- not-null-at-once


def downgrade() -> None:
    safely.allow_null("customers", "age")
