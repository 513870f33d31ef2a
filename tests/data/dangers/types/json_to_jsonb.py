"""Convert a document, which rewrites the table."""

from alembic import op

import safely

# rehearse: no, cannot alter type of a column used
# lock: ACCESS EXCLUSIVE on products
revision = "json_to_jsonb"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- type-change
        "ALTER TABLE products ALTER details TYPE jsonb USING details::jsonb"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
