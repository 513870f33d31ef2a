"""Create a schema."""

from alembic import op

import safely

# rehearse: no, schema "reports" already exists
revision = "create_schema"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE SCHEMA reports")


def downgrade() -> None:
    safely.nothing_to_undo("the schema is empty")
