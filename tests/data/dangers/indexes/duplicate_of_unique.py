"""Index a column that a unique constraint indexes already."""

import safely

# rehearse: no, is a duplicate of
# lock: SHARE UPDATE EXCLUSIVE on customers
revision = "duplicate_of_unique"
down_revision = "schema"


def upgrade() -> None:
    safely.create_index("ix_customers_email", "customers", ["email"])  # <- duplicate-index


def downgrade() -> None:
    safely.drop_index("ix_customers_email", "customers")
