"""Create a table with a JSON column."""

from alembic import op

import safely

# rehearse: yes, the type keeps what is written; the advice is about later
# lock: no table
revision = "json_in_new_table"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- prefer-jsonb
        "CREATE TABLE webhooks (id bigint PRIMARY KEY, body json NOT NULL)"
    )


def downgrade() -> None:
    safely.drop_table("webhooks")
