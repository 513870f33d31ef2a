"""Overwrite values that clients may have written."""

from alembic import op

import safely

# rehearse: yes, it changes one row
# lock: ROW EXCLUSIVE on products
revision = "upsert"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- upsert
        "INSERT INTO products (id, name) VALUES (1, 'Pen') ON CONFLICT (id) DO UPDATE SET name "
        "= excluded.name"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
