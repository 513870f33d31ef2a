"""Insert two rows."""

from alembic import op

import safely

revision = "insert_rows"
down_revision = "schema"


def upgrade() -> None:
    op.execute(
        "INSERT INTO products (id, name) VALUES (10, 'Pen'), (11, 'Ink') ON CONFLICT DO NOTHING"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
