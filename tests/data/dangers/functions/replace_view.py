"""Replace a view that every build reads."""

from alembic import op

import safely

# rehearse: no, query of view customer_list: was
# lock: ACCESS EXCLUSIVE on customer_list
revision = "replace_view"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- replace-view
        "CREATE OR REPLACE VIEW customer_list AS SELECT id, name, email FROM customers"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
