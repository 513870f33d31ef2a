"""Add a primary key while its index is built."""

from alembic import op

import safely

# rehearse: no, could not create unique index "pk_audit_log"
# lock: ACCESS EXCLUSIVE on audit_log
revision = "primary_key_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.create_primary_key("pk_audit_log", "audit_log", ["id"])  # <- primary-key-at-once


def downgrade() -> None:
    safely.drop_constraint("pk_audit_log", "audit_log")
