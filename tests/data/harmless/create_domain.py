"""Create a domain."""

from alembic import op

import safely

# rehearse: no, type "email_address" already exists
revision = "create_domain"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE DOMAIN email_address AS text")


def downgrade() -> None:
    safely.nothing_to_undo("no table uses the domain")
