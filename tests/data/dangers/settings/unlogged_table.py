"""Create a table that is empty after a crash."""

from alembic import op

import safely

# rehearse: no, table hits: was added
# lock: no table
revision = "unlogged_table"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE UNLOGGED TABLE hits (id bigint PRIMARY KEY)")  # <- durability


def downgrade() -> None:
    safely.drop_table("hits")
