"""Rename a type that older builds name."""

from alembic import op

# rehearse: no, label 'active' of customer_status is called 'active' of status_of_customer now
# lock: no table
revision = "rename_type"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TYPE customer_status RENAME TO status_of_customer")  # <- rename


def downgrade() -> None:
    op.execute("ALTER TYPE status_of_customer RENAME TO customer_status")
