"""Drop an index of a table in use, in SQL."""

from alembic import op

import safely

# rehearse: yes, the lock is held for an instant, and no query of clients needs the index
# lock: ACCESS EXCLUSIVE on customers
revision = "drop_index_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP INDEX IF EXISTS ix_customers_phone")  # <- plain-index-drop


def downgrade() -> None:
    safely.create_index("ix_customers_phone", "customers", ["phone"])
