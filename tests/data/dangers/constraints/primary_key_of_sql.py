"""Add a primary key, in SQL."""

from alembic import op

import safely

# rehearse: no, could not create unique index "audit_log_pkey"
# lock: ACCESS EXCLUSIVE on audit_log
revision = "primary_key_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE audit_log ADD PRIMARY KEY (id)")  # <- primary-key-at-once


def downgrade() -> None:
    safely.drop_constraint("audit_log_pkey", "audit_log")
