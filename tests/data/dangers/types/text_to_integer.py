"""Convert a column, which rewrites the table."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot alter type of a column used
# lock: ACCESS EXCLUSIVE on customers
revision = "text_to_integer"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- type-change
        "ALTER TABLE customers ALTER COLUMN phone TYPE integer USING phone::integer"
    )


def downgrade() -> None:
    safely.change_type("customers", "phone", sa.Text())
