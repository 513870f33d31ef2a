"""Give a function to another role."""

from alembic import op

import safely

# rehearse: no, owner of touch(): was "postgres", is now "app_owner"
# lock: no table
revision = "owner_of_function"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER FUNCTION touch() OWNER TO app_owner")  # <- owner


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
