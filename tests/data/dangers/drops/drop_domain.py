"""Drop a domain, and the columns of its type."""

from alembic import op

import safely

# lock: ACCESS EXCLUSIVE on customers
revision = "drop_domain"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP DOMAIN postal_code CASCADE")  # <- drop-cascade


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
