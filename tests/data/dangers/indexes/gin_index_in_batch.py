"""Index a document, in a batch."""

from alembic import op

import safely

# rehearse: no, rows of customers were read under a lock on
# lock: SHARE on customers
revision = "gin_index_in_batch"
down_revision = "schema"


def upgrade() -> None:
    with op.batch_alter_table("customers") as batch_op:
        batch_op.create_index(  # <- plain-index
            "ix_customers_preferences", ["preferences"], postgresql_using="gin"
        )


def downgrade() -> None:
    safely.drop_index("ix_customers_preferences", "customers")
