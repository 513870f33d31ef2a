"""Add a column whose type is a domain with a check."""

from alembic import op

import safely

# lock: ACCESS EXCLUSIVE on orders
revision = "column_of_checked_domain"
down_revision = "schema"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE orders ADD COLUMN zip postal_code DEFAULT '00000'"
    )  # <- volatile-default


def downgrade() -> None:
    safely.drop_column("orders", "zip")
