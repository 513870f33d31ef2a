"""Make a domain NOT NULL."""

from alembic import op

# rehearse: no, column "zip" of table "customers" contains null values
# lock: no table
# not in the SQL: SHARE on customers
revision = "domain_not_null"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER DOMAIN postal_code SET NOT NULL")  # <- domain-constraint


def downgrade() -> None:
    op.execute("ALTER DOMAIN postal_code DROP NOT NULL")
