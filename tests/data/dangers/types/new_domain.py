"""Create a domain with a check."""

from alembic import op

import safely

# rehearse: no, type "percentage" already exists
# lock: no table
revision = "new_domain"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- ban-create-domain-with-constraint
        "CREATE DOMAIN percentage AS integer CHECK (VALUE BETWEEN 0 AND 100)"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
