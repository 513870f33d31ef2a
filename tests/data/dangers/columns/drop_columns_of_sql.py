"""Drop two columns, in SQL."""

from alembic import op

import safely

# rehearse: no, cannot drop column phone of table customers
# lock: ACCESS EXCLUSIVE on customers
revision = "drop_columns_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- plain-drop
        "ALTER TABLE customers DROP COLUMN phone, DROP COLUMN IF EXISTS age"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
