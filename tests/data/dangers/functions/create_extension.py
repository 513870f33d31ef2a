"""Install an extension, which needs rights that the role may lack."""

from alembic import op

import safely

# rehearse: yes, the role of the copy is a superuser, who may create any extension
# lock: no table
revision = "create_extension"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")  # <- extension


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
