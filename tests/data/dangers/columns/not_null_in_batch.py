"""Make a column NOT NULL, in a batch."""

from alembic import op

import safely

# rehearse: no, column "age" of relation "customers" contains null values
# lock: ACCESS EXCLUSIVE on customers
revision = "not_null_in_batch"
down_revision = "schema"


def upgrade() -> None:
    with op.batch_alter_table("customers") as batch_op:
        batch_op.alter_column("age", nullable=False)  # <- not-null-at-once


def downgrade() -> None:
    safely.allow_null("customers", "age")
